//! Where the profiles of this machine are kept.

use std::ffi::OsString;
use std::path::PathBuf;

/// The folder; none where there is no home, or none is wanted.
pub fn folder() -> Option<PathBuf> {
    folder_of(&|name| std::env::var_os(name), std::env::home_dir())
}

fn folder_of(variable: &dyn Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    if let Some(folder) = variable("MILLSTREAM_PROFILES") {
        return (!folder.is_empty()).then(|| PathBuf::from(folder));
    }
    let cache = variable("XDG_CACHE_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
    Some(cache.or_else(|| Some(home?.join(".cache")))?.join("millstream").join("profiles"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_where_caches_are() {
        let folder = |set: &[(&str, &str)], home: Option<&str>| {
            let variable = |name: &str| set.iter().find(|v| v.0 == name).map(|v| OsString::from(v.1));
            folder_of(&variable, home.map(PathBuf::from)).map(|p| p.to_string_lossy().into_owned())
        };
        let some = |path: &str| Some(path.to_string());
        assert_eq!(folder(&[], Some("/h")), some("/h/.cache/millstream/profiles"));
        assert_eq!(folder(&[("XDG_CACHE_HOME", "/c")], Some("/h")), some("/c/millstream/profiles"));
        assert_eq!(folder(&[("XDG_CACHE_HOME", "")], None), None);
        assert_eq!(folder(&[("MILLSTREAM_PROFILES", "/p"), ("XDG_CACHE_HOME", "/c")], None), some("/p"));
        assert_eq!(folder(&[("MILLSTREAM_PROFILES", "")], Some("/h")), None);
    }
}
