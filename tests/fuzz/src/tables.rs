//! Three small tables in memory, of every kind of column, for queries and for the plans that stages are taken from.

use crate::bounded;
use millstream::Session;

const TABLES: &[&str] = &[
    "create table orders as select cast(id as bigint) as id, cast(customer as int) as customer, \
       cast(price as decimal(12, 2)) as price, cast(day as date) as day, note from (values \
       (1, 1, '10.50', '2024-01-31', 'first'), (2, 1, '-3.25', '2024-02-29', null), (3, 2, '0', '1970-01-01', ''), \
       (4, null, '9999999999.99', '2038-01-19', 'ünïcode %_'), (5, 3, null, null, 'first'), \
       (6, 2, '0.01', '2024-01-31', 'a note that is longer than twelve bytes')) t(id, customer, price, day, note)",
    "create table customers as select cast(customer as int) as customer, name, cast(score as double) as score, active from (values \
       (1, 'Ada', 1.5, true), (2, 'Bob', 'NaN', false), (3, 'Cem', '-0', null), (4, null, null, true)) \
       t(customer, name, score, active)",
    "create table events as select cast(at as timestamp) as at, cast(small as smallint) as small, \
       cast(wide as bigint) as wide, cast(real as float) as real, [small, small + 1] as list from (values \
       ('2024-03-31T01:59:59.999', 1, 9223372036854775807, 1.5), ('1969-12-31T23:59:59', -1, -9223372036854775808, 'inf'), \
       (null, null, null, null), ('2024-03-31T03:00:00', 32767, 0, 0.1)) t(at, small, wide, real)",
];

/// Makes the tables in `session`.
pub fn create(session: &Session) {
    for table in TABLES {
        let made = bounded(async { session.sql(table).await?.collect().await });
        made.expect("in time").expect("a table");
    }
}
