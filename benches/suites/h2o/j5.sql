select x.id1 as xid1, big.id1 as bigid1, x.id2 as xid2, big.id2 as bigid2, x.id3, x.id4 as xid4, big.id4 as bigid4,
  x.id5 as xid5, big.id5 as bigid5, x.id6 as xid6, big.id6 as bigid6, x.v1, big.v2
from lhs as x
inner join big on x.id3 = big.id3
