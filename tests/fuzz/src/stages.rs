//! Stages of real plans: their messages are the seeds, their children what a changed message is decoded over.

use crate::{bounded, session, tables};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{DefaultPhysicalProtoConverter, PhysicalExtensionCodec};
use millstream_kernels::hash;
use millstream_stage::{StageCodec, StageExec};
use std::sync::Arc;

/// A node of a plan.
pub type Plan = Arc<dyn ExecutionPlan>;

/// Of each kind of sink and instruction one at least.
const QUERIES: &[&str] = &[
    "select id, price * 2, upper(note) from orders where day > date '2000-01-01' and note like '%i%'",
    "select customer, count(*), sum(price), avg(price), min(note), max(day) filter (where id > 1) from orders group by customer",
    "select name, sum(price) from orders join customers using (customer) where active group by name",
    "select * from customers c left join orders o on c.customer = o.customer and o.price > c.score",
    "select name from customers where customer not in (select customer from orders where customer is not null)",
    "select name from customers c where exists (select 1 from orders o where o.customer = c.customer) or score > 1",
    "select id, day from orders order by day desc nulls last, id limit 3",
    "select case when price > 1 then id else customer end + 1, coalesce(note, 'none') from orders where id in (1, 2, 3, 4)",
    "select count(*) from orders where price > (select avg(price) from orders)",
    "select date_trunc('month', at), sum(small), sum(wide / 4), max(real) from events group by 1",
    "select distinct note from orders",
    "select sum(id), stddev(score) from orders full join customers using (customer)",
];

/// The stages of the queries' plans, those of subplans after those above them.
pub fn all() -> Vec<Plan> {
    let session = session(true);
    tables::create(&session);
    let mut out = vec![];
    for query in QUERIES {
        let plan = bounded(async { session.sql(query).await?.plan().await });
        collect(&plan.expect("in time").expect("a plan"), &mut out);
    }
    out
}

fn collect(plan: &Plan, out: &mut Vec<Plan>) {
    if plan.is::<StageExec>() {
        out.push(Arc::clone(plan));
    }
    plan.children().into_iter().for_each(|child| collect(child, out));
}

/// The message of a stage.
pub fn encode(stage: &Plan) -> datafusion::error::Result<Vec<u8>> {
    let mut bytes = vec![];
    StageCodec::default().try_encode(Arc::clone(stage), &mut bytes, &DefaultPhysicalProtoConverter {})?;
    Ok(bytes)
}

/// The stage of a message, over `children`.
pub fn decode(message: &[u8], children: &[Plan]) -> datafusion::error::Result<Plan> {
    StageCodec::default().try_decode(message, children, &TaskContext::default(), &DefaultPhysicalProtoConverter {})
}

/// Magic and version of a message; its checksum, of what follows it, is the next eight bytes.
pub const HEAD: usize = 6;

/// The message of `body`, as its sender would seal it: mutations would end at the checksum.
pub fn seal(head: &[u8], body: &[u8]) -> Vec<u8> {
    let mut message = head.to_vec();
    message.extend(hash::bytes(body).to_le_bytes());
    message.extend(body);
    message
}

/// The sections of a body, each after its length; none where it is no body.
pub fn sections(mut body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut out = vec![];
    while !body.is_empty() {
        let (len, rest) = body.split_first_chunk()?;
        let (section, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
        out.push(section.to_vec());
        body = rest;
    }
    Some(out)
}

/// The body of `sections`.
pub fn body(sections: &[Vec<u8>]) -> Vec<u8> {
    sections.iter().flat_map(|s| (s.len() as u64).to_le_bytes().into_iter().chain(s.iter().copied())).collect()
}
