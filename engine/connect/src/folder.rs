//! Files that wait beside a folder until their checkpoint is true, and are moved into it then.

use futures::TryStreamExt;
use millstream_stream::{Error, ErrorKind, Result};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::sync::Arc;

/// The folder in which files wait.
const STAGED: &str = "_staged";

/// Where `file` waits.
pub(crate) fn staged(folder: &Path, file: &str) -> Path {
    folder.clone().join(STAGED).join(file)
}

/// Moves a file that waits at `from`; again with the same effect.
///
/// # Errors
/// `Corrupt` when it is at neither place; `Retry` when the store cannot be reached.
pub(crate) async fn publish(store: &Arc<dyn ObjectStore>, from: &Path, to: &Path) -> Result<()> {
    match store.head(to).await {
        Ok(_) => {}
        Err(object_store::Error::NotFound { .. }) => store.copy(from, to).await.map_err(|e| match e {
            object_store::Error::NotFound { .. } => Error::new(ErrorKind::Corrupt, format!("{from} was staged and is gone")),
            e => outside("write", to, e),
        })?,
        Err(e) => return Err(outside("look for", to, e)),
    }
    remove(store, from).await
}

/// Removes the files that wait of generations before `generation` and are not among `named`. The names of files say their
/// generation behind `prefix`.
///
/// # Errors
/// `Retry` when the store cannot be reached.
pub(crate) async fn sweep(store: &Arc<dyn ObjectStore>, folder: &Path, prefix: &str, generation: u64, named: &[&str]) -> Result<()> {
    let folder = folder.clone().join(STAGED);
    let listed: Vec<_> = store.list(Some(&folder)).try_collect().await.map_err(|e| outside("list", &folder, e))?;
    for path in listed.into_iter().map(|o| o.location) {
        let file = path.filename().unwrap_or_default();
        let of: Option<u64> = file.strip_prefix(prefix).and_then(|n| n.split('-').next()?.parse().ok());
        if of.is_some_and(|g| g < generation) && !named.contains(&file) {
            remove(store, &path).await?;
        }
    }
    Ok(())
}

/// Removes a file, which may be gone.
///
/// # Errors
/// `Retry` when the store cannot be reached.
pub(crate) async fn remove(store: &Arc<dyn ObjectStore>, path: &Path) -> Result<()> {
    match store.delete(path).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(e) => Err(outside("remove", path, e)),
    }
}

pub(crate) fn outside(doing: &str, path: &Path, e: object_store::Error) -> Error {
    Error::outside(format!("cannot {doing} {path}"), e)
}
