select x.id1 as xid1, medium.id1 as mediumid1, x.id2, x.id3, x.id4 as xid4, medium.id4 as mediumid4,
  x.id5 as xid5, medium.id5 as mediumid5, x.id6, x.v1, medium.v2
from lhs as x
inner join medium on x.id2 = medium.id2
