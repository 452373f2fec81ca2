select x.id1, x.id2, x.id3, x.id4 as xid4, small.id4 as smallid4, x.id5, x.id6, x.v1, small.v2
from lhs as x
inner join small on x.id1 = small.id1
