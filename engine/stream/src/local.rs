//! A local folder as a store that keeps what it was given when the power goes: the file system store of
//! `object_store` writes, this one forces files and their folders to disk as well.

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use std::fmt;
use std::path::PathBuf;

/// A folder of the local file system.
#[derive(Debug)]
pub struct LocalStore {
    inner: LocalFileSystem,
    root: PathBuf,
}

impl LocalStore {
    /// The folder `root`, made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(root: impl Into<PathBuf>) -> crate::Result<Self> {
        let root = root.into();
        let failed = |e: Box<dyn std::error::Error + Send + Sync>| crate::Error::outside(format!("cannot use {}", root.display()), e);
        std::fs::create_dir_all(&root).map_err(|e| failed(e.into()))?;
        let inner = LocalFileSystem::new_with_prefix(&root).map_err(|e| failed(e.into()))?;
        Ok(Self { inner, root })
    }

    async fn force(&self, path: &Path) -> Result<()> {
        let (file, root) = (self.root.join(path.as_ref()), self.root.clone());
        let forced = tokio::task::spawn_blocking(move || {
            // Any of the folders may be new: its name is in the one above.
            let folders = file.ancestors().skip(1).take_while(|f| f.starts_with(&root));
            std::iter::once(file.as_path()).chain(folders).try_for_each(|f| std::fs::File::open(f)?.sync_all())
        });
        let forced = forced.await.map_err(|e| failed(e.into()))?;
        forced.map_err(|e| failed(e.into()))
    }
}

fn failed(source: Box<dyn std::error::Error + Send + Sync>) -> object_store::Error {
    object_store::Error::Generic { store: "local folder, forced to disk", source }
}

impl fmt::Display for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.root.display())
    }
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let put = self.inner.put_opts(location, payload, opts).await?;
        self.force(location).await?;
        Ok(put)
    }

    async fn put_multipart_opts(&self, _location: &Path, _opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        // A part that is not forced could go with the power; nothing here writes in parts.
        Err(object_store::Error::NotImplemented { operation: "put_multipart".into(), implementer: self.to_string() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        self.force(to).await
    }
}
