//! A store that dies: one operation fails, before or behind its effect, and all that follow.

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use millstream::streams::object_store::path::Path;
use millstream::streams::object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result,
};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
pub struct Mortal {
    inner: Arc<dyn ObjectStore>,
    /// Changes that are still allowed.
    left: AtomicU64,
    /// Whether the last one happens although it is said to have failed.
    behind: bool,
}

impl Mortal {
    /// `inner` until the change number `dies`.
    pub fn new(inner: Arc<dyn ObjectStore>, dies: u64, behind: bool) -> Self {
        Self { inner, left: AtomicU64::new(dies), behind }
    }

    /// Whether it still lives.
    pub fn lives(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 0
    }

    fn dead() -> Error {
        Error::Generic { store: "mortal", source: "the power went".into() }
    }

    /// Whether a change may happen, and whether it is told.
    fn change(&self) -> (bool, bool) {
        let before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(1))).unwrap_or(0);
        match before {
            0 => (false, false),
            1 => (self.behind, false),
            _ => (true, true),
        }
    }

    async fn changed<T>(&self, change: impl Future<Output = Result<T>>) -> Result<T> {
        let (happens, told) = self.change();
        if !happens {
            return Err(Self::dead());
        }
        let done = change.await;
        if told { done } else { Err(Self::dead()) }
    }

    fn alive(&self) -> Result<()> {
        if self.lives() { Ok(()) } else { Err(Self::dead()) }
    }
}

impl fmt::Display for Mortal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mortal {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Mortal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.changed(self.inner.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.changed(self.inner.put_multipart_opts(location, opts)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.alive()?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (happens, told) = self.change();
        if !happens {
            return futures::stream::iter([Err(Self::dead())]).boxed();
        }
        let deleted = self.inner.delete_stream(locations);
        if told { deleted } else { deleted.map(|_| Err(Self::dead())).boxed() }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.alive().is_err() {
            return futures::stream::iter([Err(Self::dead())]).boxed();
        }
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.alive()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.changed(self.inner.copy_opts(from, to, options)).await
    }
}
