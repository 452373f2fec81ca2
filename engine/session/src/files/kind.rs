//! What a file is, as its ending says: `sales.csv.gz` is CSV in gzip.

use datafusion::common::parsers::CompressionTypeVariant as Compression;

/// A kind of file that is read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Parquet,
    Csv,
    Tsv,
    Json,
    Arrow,
    Avro,
}

/// Names of each kind: endings of files and what STORED AS takes; the first one is what we write.
const NAMES: &[(Kind, &[&str])] = &[
    (Kind::Parquet, &["parquet", "parq", "pq"]),
    (Kind::Csv, &["csv"]),
    (Kind::Tsv, &["tsv", "tab"]),
    (Kind::Json, &["json", "ndjson", "jsonl"]),
    (Kind::Arrow, &["arrow", "ipc", "feather", "arrows"]),
    (Kind::Avro, &["avro"]),
];

/// Endings of files that are compressed as a whole.
const COMPRESSIONS: &[(Compression, &str)] =
    &[(Compression::GZIP, "gz"), (Compression::BZIP2, "bz2"), (Compression::XZ, "xz"), (Compression::ZSTD, "zst")];

impl Kind {
    /// Each name with its kind.
    pub(crate) fn names() -> impl Iterator<Item = (&'static str, Kind)> {
        NAMES.iter().flat_map(|(kind, names)| names.iter().map(move |name| (*name, *kind)))
    }

    /// The kind of this name, in capitals or not.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::names().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, kind)| kind)
    }

    /// Its first name.
    pub(crate) fn name(self) -> &'static str {
        NAMES.iter().find(|(kind, _)| *kind == self).map_or("", |(_, names)| names[0])
    }

    /// Whether it is lines of text, which may be compressed as a whole.
    pub(crate) fn is_text(self) -> bool {
        matches!(self, Self::Csv | Self::Tsv | Self::Json)
    }

    /// All names, for a message.
    pub(crate) fn list() -> String {
        Self::names().map(|(name, _)| name).collect::<Vec<_>>().join(", ")
    }
}

/// What the end of a path says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) kind: Kind,
    /// The name of the kind that was used.
    pub(crate) name: &'static str,
    pub(crate) compression: Compression,
    /// As written, with its dot: `.csv.gz`.
    pub(crate) suffix: String,
}

impl Ending {
    /// The ending of `path`; none when it says nothing.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let file = path.rsplit('/').next().unwrap_or(path);
        let (rest, last) = file.rsplit_once('.')?;
        let compressed = COMPRESSIONS.iter().find(|(_, name)| name.eq_ignore_ascii_case(last));
        let (name, compression, length) = match compressed {
            None => (last, Compression::UNCOMPRESSED, last.len() + 1),
            Some((compression, _)) => {
                let inner = rest.rsplit_once('.').map_or("", |(_, inner)| inner);
                (inner, *compression, last.len() + inner.len() + 2)
            }
        };
        let (name, kind) = Kind::names().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(Self { kind, name, compression, suffix: file[file.len() - length..].to_string() })
    }
}

/// The ending that a compression adds, with its dot; empty for none.
pub(crate) fn compression_suffix(compression: Compression) -> String {
    COMPRESSIONS.iter().find(|(c, _)| *c == compression).map_or(String::new(), |(_, name)| format!(".{name}"))
}

/// The name that the option `compression` takes.
pub(crate) fn compression_name(compression: Compression) -> &'static str {
    match compression {
        Compression::GZIP => "gzip",
        Compression::BZIP2 => "bzip2",
        Compression::XZ => "xz",
        Compression::ZSTD => "zstd",
        Compression::UNCOMPRESSED => "uncompressed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_says_what_a_file_is() {
        for (path, kind, name, compression, suffix) in [
            ("a.parquet", Kind::Parquet, "parquet", Compression::UNCOMPRESSED, ".parquet"),
            ("dir.x/a.b.CSV", Kind::Csv, "csv", Compression::UNCOMPRESSED, ".CSV"),
            ("s3://b/a.tsv.gz", Kind::Tsv, "tsv", Compression::GZIP, ".tsv.gz"),
            ("a.ndjson.zst", Kind::Json, "ndjson", Compression::ZSTD, ".ndjson.zst"),
            ("a.jsonl.xz", Kind::Json, "jsonl", Compression::XZ, ".jsonl.xz"),
            ("a.feather", Kind::Arrow, "feather", Compression::UNCOMPRESSED, ".feather"),
        ] {
            assert_eq!(Ending::of(path), Some(Ending { kind, name, compression, suffix: suffix.into() }), "{path}");
        }
        for path in ["a", "a.txt", "a.gz", "csv", "a.parquet/part-0", ""] {
            assert_eq!(Ending::of(path), None, "{path}");
        }
        assert_eq!(Kind::named("NDJSON"), Some(Kind::Json));
        assert!(Kind::list().contains("parquet") && Kind::named("xml").is_none());
    }
}
