//! Probes of join tables and what is gathered from them.

use super::super::index::Index;
use super::{Found, Interval, Kind, Lowering, and};
use crate::program::{JoinKind, Probe, Reg};
use crate::{Error, Result};

impl Lowering<'_> {
    pub(super) fn probe(&mut self, probe: &Probe) -> Result<()> {
        let &[key] = probe.keys.as_slice() else {
            return Err(Error::unsupported("gpu: Probe by several keys"));
        };
        if probe.residual.is_some() || probe.null_aware {
            return Err(Error::unsupported("gpu: Probe with a residual or with NOT IN nulls"));
        }
        let key = self.read(key)?;
        if !key.is_integer() || (probe.null_equals_null && key.valid.is_some()) {
            return Err(Error::unsupported("gpu: Probe by a key that is no integer or may equal null"));
        }
        let tables = self.tables;
        let table = tables.get(usize::from(probe.table)).ok_or_else(|| Error::bug("Probe of a table not given"))?;
        let (rows, min_key, found) = (probe.rows, self.param64(table.min_key)?, table.found);
        self.line(&format!("let d{rows} = int64_sub({}, {min_key});", key.as_int64()?));
        match found {
            Found::Array { buffer, at, len } => {
                let (len, at) = (self.param(len)?, self.param(at)?);
                let inside = format!("int64_high(d{rows}) == 0u && int64_low(d{rows}) < {len}");
                let inside = and(&key.valid, &Some(inside)).unwrap_or_default();
                self.line(&format!("let i{rows} = {inside};"));
                let slot = format!("tables{buffer}[{at} + select(0u, int64_low(d{rows}), i{rows})]");
                self.line(&format!("let s{rows} = select(0u, {slot}, i{rows});"));
            }
            Found::Hash(index) => self.find(rows, &key.valid, &index)?,
        }
        self.line(&format!("let m{rows} = s{rows} != 0u;"));
        let row = format!("select(0u, s{rows} - 1u, m{rows})");
        let matched = format!("m{rows}");
        match probe.kind {
            JoinKind::Inner | JoinKind::ProbeSemi => {
                self.line(&format!("if (!{matched}) {{ {} }}", self.drop));
                self.define(rows, Kind::Row, format!("s{rows} - 1u"), None, Interval::ZERO)?;
            }
            JoinKind::ProbeAnti => {
                self.line(&format!("if ({matched}) {{ {} }}", self.drop));
                self.define(rows, Kind::Row, "0u".into(), Some("false".into()), Interval::ZERO)?;
            }
            JoinKind::ProbeOuter | JoinKind::ProbeMark => {
                self.define(rows, Kind::Row, row, Some(matched.clone()), Interval::ZERO)?;
            }
            other => return Err(Error::unsupported(format!("gpu: Probe {other:?}"))),
        }
        match (probe.kind, probe.mark) {
            (JoinKind::ProbeMark, Some(mark)) => self.boolean(mark, matched, None),
            _ => Ok(()),
        }
    }

    /// Leaves in `s` what the hash table has of the key in `d`: it ends at a free slot, of which there are some.
    fn find(&mut self, rows: Reg, valid: &Option<String>, index: &Index) -> Result<()> {
        let words = format!("tables{}", index.buffer);
        let (slots, mask, codes) = (self.param(index.slots_at)?, self.param(index.mask)?, self.param(index.codes_at)?);
        let valid = valid.clone().unwrap_or_else(|| "true".into());
        for line in [
            format!("let l{rows} = int64_low(d{rows});"),
            format!("let h{rows} = int64_high(d{rows});"),
            format!("var p{rows} = hash_words(l{rows}, h{rows}) & {mask};"),
            format!("var s{rows} = select(0u, {words}[{slots} + p{rows}], {valid});"),
            format!("while (s{rows} != 0u) {{"),
            format!("    let c{rows} = {codes} + 2u * (s{rows} - 1u);"),
            format!("    if ({words}[c{rows}] == l{rows} && {words}[c{rows} + 1u] == h{rows}) {{ break; }}"),
            format!("    p{rows} = (p{rows} + 1u) & {mask};"),
            format!("    s{rows} = {words}[{slots} + p{rows}];"),
            "}".into(),
        ] {
            self.line(&line);
        }
        Ok(())
    }

    pub(super) fn gather(&mut self, table: u16, column: u16, rows: Reg, out: Reg) -> Result<()> {
        let rows = self.read(rows)?;
        if rows.kind != Kind::Row {
            return Err(Error::bug("Gather by a register that holds no row ids"));
        }
        let tables = self.tables;
        let column = tables
            .get(usize::from(table))
            .and_then(|t| t.columns.get(usize::from(column)))
            .ok_or_else(|| Error::bug("Gather of a column not given"))?;
        let (kind, value, valid) = self.load(column, &format!("tables{}", column.buffer), &rows.value)?;
        let valid = and(&rows.valid, &valid.map(|v| format!("({v})")));
        self.define(out, kind, value, valid, column.range).map(|_| ())
    }
}
