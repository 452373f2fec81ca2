//! What a path names: a file, a folder or the files that a pattern matches, on this machine or in an object
//! store.
//!
//! `*` and `?` stay within a name, `**` is any number of folders. Folders called `name=value` are columns. A
//! pattern is turned into folders that DataFusion lists by itself, so that it sees new files later; where its
//! own matching would take in more files than the pattern, the files are named one by one.

use super::kind::Ending;
use super::{invalid, unsupported};
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::error::Result;
use datafusion::execution::SessionState;
use futures::TryStreamExt;
use glob::Pattern;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use std::collections::BTreeSet;
use std::sync::Arc;
use url::Url;

/// A path as it was written, cut before its first wildcard.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    text: String,
    base: Url,
    /// Names below `base`; empty without a wildcard.
    pattern: Vec<String>,
}

/// What is there.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) urls: Vec<ListingTableUrl>,
    /// At the time of looking.
    pub(crate) files: Vec<ObjectMeta>,
    /// Values that the folders of a partition column may have, where a pattern restricts them.
    pub(crate) restricted: Vec<(String, BTreeSet<String>)>,
    pub(crate) is_folder: bool,
}

impl Location {
    /// # Errors
    /// A URL or a pattern that cannot be read.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let cannot = |e: &dyn std::fmt::Display| invalid(format!("{text} is no path: {e}"));
        if text.is_empty() {
            return Err(invalid("an empty path"));
        }
        let Some((scheme, _)) = text.split_once("://") else { return Self::local(text) };
        if scheme.starts_with("http") {
            if text.contains('?') {
                return Err(unsupported(format!("{text}: a URL with a query is not read: use the store's own scheme, s3:// for instance")));
            }
            return Ok(Self { text: text.into(), base: Url::parse(text).map_err(|e| cannot(&e))?, pattern: vec![] });
        }
        let (literal, pattern) = cut(text, scheme.len() + 3);
        Ok(Self { text: text.into(), base: Url::parse(literal).map_err(|e| cannot(&e))?, pattern: segments(pattern, text)? })
    }

    fn local(text: &str) -> Result<Self> {
        let whole = std::path::Path::new(text);
        // A file may have a wildcard in its name.
        let (literal, pattern) = if whole.exists() { (text, "") } else { cut(text, 0) };
        let literal = std::path::Path::new(if literal.is_empty() { "." } else { literal });
        let absolute = std::path::absolute(literal).map_err(|e| invalid(format!("{text}: {e}")))?;
        let folder = !pattern.is_empty() || absolute.is_dir() || text.ends_with(std::path::is_separator);
        let url = if folder { Url::from_directory_path(&absolute) } else { Url::from_file_path(&absolute) };
        let base = url.map_err(|()| invalid(format!("{text} is no path")))?;
        Ok(Self { text: text.into(), base, pattern: segments(pattern, text)? })
    }

    /// As the user wrote it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Looks at what is there; `may_be_empty` for a folder that files will be written to.
    ///
    /// # Errors
    /// Nothing is there, or the store says no.
    pub(crate) async fn look(&self, state: &SessionState, may_be_empty: bool) -> Result<Found> {
        let url = ListingTableUrl::try_new(self.base.clone(), None)?;
        let store = state.runtime_env().object_store(&url)?;
        if self.pattern.is_empty() { self.look_plain(&store, url, may_be_empty).await } else { self.look_pattern(&store, url).await }
    }

    async fn look_plain(&self, store: &Arc<dyn ObjectStore>, mut url: ListingTableUrl, may_be_empty: bool) -> Result<Found> {
        if !url.is_collection() {
            match store.head(url.prefix()).await {
                Ok(file) => return Ok(Found { urls: vec![url], files: vec![file], restricted: vec![], is_folder: false }),
                Err(object_store::Error::NotFound { .. }) if self.base.scheme().starts_with("http") => {
                    return Err(invalid(format!("no file {}", self.text)));
                }
                Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(e.into()),
            }
            let mut folder = self.base.clone();
            folder.set_path(&format!("{}/", self.base.path()));
            url = ListingTableUrl::try_new(folder, None)?;
        }
        let all: Vec<ObjectMeta> = store.list(Some(url.prefix())).try_collect().await?;
        let mut files = vec![];
        for file in all {
            let parts: Vec<&str> = url.strip_prefix(&file.location).map(|p| p.filter(|s| !s.contains('=')).collect()).unwrap_or_default();
            match parts.as_slice() {
                [name] if !is_hidden(name) => files.push(file),
                // DataFusion would take it for a file.
                [folder, _, ..] if !is_hidden(folder) && Ending::of(folder).is_some() => {
                    return Err(unsupported(format!("{}: {folder} is a folder with the name of a file: use a pattern", self.text)));
                }
                _ => {}
            }
        }
        if files.is_empty() && !may_be_empty {
            return Err(self.nothing(store, &url).await);
        }
        Ok(Found { urls: vec![url], files, restricted: vec![], is_folder: true })
    }

    async fn nothing(&self, store: &Arc<dyn ObjectStore>, url: &ListingTableUrl) -> datafusion::error::DataFusionError {
        let text = self.text.trim_end_matches('/');
        if self.base.scheme() == "file" && !std::path::Path::new(&self.text).exists() {
            return invalid(format!("no file or folder {}", self.text));
        }
        match store.list(Some(url.prefix())).try_next().await {
            Ok(Some(_)) => invalid(format!("folder {text} has no files of its own: {text}/**/* reads the folders below")),
            Ok(None) => invalid(format!("no file or folder {} with files", self.text)),
            Err(e) => e.into(),
        }
    }

    async fn look_pattern(&self, store: &Arc<dyn ObjectStore>, base: ListingTableUrl) -> Result<Found> {
        let patterns: Vec<Segment> = self.pattern.iter().map(|s| Segment::parse(s, &self.text)).collect::<Result<_>>()?;
        let all: Vec<ObjectMeta> = store.list(Some(base.prefix())).try_collect().await?;
        let relative = |file: &ObjectMeta| -> Vec<String> {
            base.strip_prefix(&file.location).map(|parts| parts.map(str::to_string).collect()).unwrap_or_default()
        };
        let files: Vec<ObjectMeta> = all.iter().filter(|f| matches(&patterns, &relative(f))).cloned().collect();
        if files.is_empty() {
            return Err(invalid(format!("no file matches {}", self.text)));
        }
        let shape = Shape::of(&self.pattern);
        let roots: BTreeSet<Vec<String>> = files.iter().map(|f| shape.root(relative(f))).collect();
        let mut urls = vec![];
        for root in &roots {
            let mut folder = self.base.clone();
            folder.path_segments_mut().map_err(|()| invalid(format!("{} is no path", self.text)))?.pop_if_empty().extend(root).push("");
            urls.push(ListingTableUrl::try_new(folder, None)?.with_glob(&visible(shape.file))?);
        }
        let restricted = shape.restricted(&files.iter().map(relative).collect::<Vec<_>>());
        if let Some((name, _)) = restricted.iter().find(|(_, values)| values.iter().any(|v| v.contains('%'))) {
            return Err(unsupported(format!(
                "{}: folders {name}=... have encoded characters: read {name}=* and filter the rows",
                self.text
            )));
        }
        let allowed = |file: &ObjectMeta| {
            let parts = relative(file);
            restricted.iter().all(|(name, values)| {
                let value = parts.iter().find_map(|p| p.split_once('=').filter(|(n, _)| n == name));
                value.is_some_and(|(_, value)| values.contains(value))
            })
        };
        let listed = all.iter().filter(|f| urls.iter().any(|u| u.contains(&f.location, true)) && allowed(f)).count();
        if shape.is_regular && listed == files.len() {
            return Ok(Found { urls, files, restricted, is_folder: true });
        }
        if !shape.columns.is_empty() {
            let text = format!("{}: folders name=value must be the last ones, and only files stand beside them", self.text);
            return Err(unsupported(text));
        }
        let urls = files.iter().map(|f| self.one(&f.location)).collect::<Result<_>>()?;
        Ok(Found { urls, files, restricted: vec![], is_folder: false })
    }

    /// The file at `path` of the same store.
    fn one(&self, path: &ObjectPath) -> Result<ListingTableUrl> {
        let mut url = self.base.clone();
        let set = |mut parts: url::PathSegmentsMut<'_>| {
            parts.clear().extend(path.as_ref().split('/'));
        };
        url.path_segments_mut().map(set).map_err(|()| invalid(format!("{} is no path", self.text)))?;
        ListingTableUrl::try_new(url, None)
    }
}

/// How a pattern divides: folders, folders that are columns, files.
struct Shape<'a> {
    /// Number of folders before the first that is a column; none with `**`.
    folders: Option<usize>,
    columns: &'a [String],
    file: &'a str,
    /// Columns come last, as DataFusion reads them.
    is_regular: bool,
}

impl<'a> Shape<'a> {
    fn of(pattern: &'a [String]) -> Self {
        let (file, folders) = pattern.split_last().map_or(("*", &pattern[..0]), |(file, folders)| (file.as_str(), folders));
        let first = folders.iter().position(|s| s.contains('=')).unwrap_or(folders.len());
        let columns = &folders[first..];
        let is_named = |s: &String| s.split('=').next().is_some_and(|name| !is_wild(name) && !name.is_empty());
        let deep = folders.iter().any(|s| s == "**") || file == "**";
        Self {
            folders: (!deep).then_some(first),
            columns,
            file: if file == "**" { "*" } else { file },
            is_regular: columns.is_empty() || (!deep && columns.iter().all(is_named)),
        }
    }

    /// The folder to list for a file, by the names on its path.
    fn root(&self, mut path: Vec<String>) -> Vec<String> {
        path.truncate(self.folders.unwrap_or(path.len().saturating_sub(1)));
        path
    }

    fn restricted(&self, paths: &[Vec<String>]) -> Vec<(String, BTreeSet<String>)> {
        let mut out = vec![];
        for (i, segment) in self.columns.iter().enumerate() {
            let Some((name, _)) = segment.split_once('=').filter(|(_, value)| *value != "*") else { continue };
            let at = self.folders.unwrap_or(0) + i;
            let values = paths.iter().filter_map(|p| p.get(at)?.split_once('=')).map(|(_, v)| v.to_string());
            out.push((name.to_string(), values.collect()));
        }
        out
    }
}

/// One name of a pattern.
enum Segment {
    AnyFolders,
    /// Begins with a wildcard: then hidden names do not match.
    Wild(Pattern),
    Name(Pattern),
}

impl Segment {
    fn parse(segment: &str, text: &str) -> Result<Self> {
        if segment == "**" {
            return Ok(Self::AnyFolders);
        }
        let kind = if segment.starts_with(['*', '?']) { Self::Wild } else { Self::Name };
        Pattern::new(segment).map(kind).map_err(|e| invalid(format!("{text}: {segment} is no pattern: {e}")))
    }
}

/// Whether a path, name by name, is one of the pattern's.
fn matches(pattern: &[Segment], path: &[String]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        // `**` at the end is any file below.
        (Some((Segment::AnyFolders, rest)), _) => {
            let seen = path.iter().take_while(|name| !is_hidden(name)).count();
            (rest.is_empty() && !path.is_empty() && seen == path.len()) || (0..=seen).any(|taken| matches(rest, &path[taken..]))
        }
        (Some((Segment::Wild(name), rest)), Some((first, below))) => !is_hidden(first) && name.matches(first) && matches(rest, below),
        (Some((Segment::Name(name), rest)), Some((first, below))) => name.matches(first) && matches(rest, below),
        _ => false,
    }
}

/// Files that are not hidden, for DataFusion's own listing.
pub(crate) const VISIBLE: &str = "[!._]*";

/// Programs keep things of their own in files and folders with such names.
fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '_'])
}

/// The pattern of files, without hidden ones where it begins with a wildcard.
fn visible(file: &str) -> String {
    match file.strip_prefix('*') {
        Some(rest) => format!("{VISIBLE}{rest}"),
        None => file.strip_prefix('?').map_or(file.to_string(), |rest| format!("[!._]{rest}")),
    }
}

fn is_wild(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// `text` before and after the `/` that stands before its first wildcard; nothing is cut before `from`.
fn cut(text: &str, from: usize) -> (&str, &str) {
    let Some(wild) = text[from..].find(['*', '?', '[']) else { return (text, "") };
    let at = text[from..from + wild].rfind('/').map_or(from, |slash| from + slash + 1);
    (&text[..at], &text[at..])
}

fn segments(pattern: &str, text: &str) -> Result<Vec<String>> {
    if pattern.is_empty() {
        return Ok(vec![]);
    }
    let segments: Vec<String> = pattern.split('/').map(str::to_string).collect();
    match segments.iter().any(|s| s.is_empty() || s == "..") {
        true => Err(invalid(format!("{text}: a pattern ends in the name of files, {text}* for instance"))),
        false => Ok(segments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_match(pattern: &str, path: &str) -> bool {
        let pattern: Vec<Segment> = pattern.split('/').map(|s| Segment::parse(s, pattern).unwrap()).collect();
        matches(&pattern, &path.split('/').map(str::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn a_wildcard_stays_within_a_name() {
        for (pattern, path) in [
            ("*.csv", "a.csv"),
            ("*/a.csv", "x/a.csv"),
            ("**/*.csv", "a.csv"),
            ("**/*.csv", "x/y/a.csv"),
            ("x/**", "x/y/a.csv"),
            ("a[0-9]?.csv", "a1x.csv"),
            ("year=*/*.csv", "year=2024/a.csv"),
        ] {
            assert!(is_match(pattern, path), "{pattern} {path}");
        }
        let (no, hidden) = (
            [("*.csv", "x/a.csv"), ("*", "x/a"), ("*/a.csv", "a.csv"), ("*/a.csv", "x/y/a.csv"), ("a?.csv", "a.csv")],
            [("*.csv", ".a.csv"), ("?a.csv", "_a.csv"), ("**/*.csv", "x/_tmp/a.csv"), ("**", "x/.git")],
        );
        for (pattern, path) in no.into_iter().chain(hidden) {
            assert!(!is_match(pattern, path), "{pattern} {path}");
        }
        assert!(is_match("_*/*.csv", "_x/a.csv") && visible("*.csv") == "[!._]*.csv" && visible("?.csv") == "[!._].csv");
    }

    #[test]
    fn a_path_is_cut_before_its_first_wildcard() {
        assert_eq!(cut("s3://b/x/y*/z.csv", 5), ("s3://b/x/", "y*/z.csv"));
        assert_eq!(cut("*.csv", 0), ("", "*.csv"));
        assert_eq!(cut("a/b.csv", 0), ("a/b.csv", ""));
        let l = Location::parse("s3://bucket/dir/year=*/*.parquet").unwrap();
        assert_eq!((l.base.as_str(), l.pattern.len()), ("s3://bucket/dir/", 2));
        assert!(Location::parse("dir/*/").is_err() && Location::parse("").is_err() && Location::parse("https://h/a?b").is_err());
    }
}
