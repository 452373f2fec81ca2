//! The local file system: the store of `object_store`, which reads ranges into memory that nobody cleared before.
//! To clear it was 6 % of the samples of TPC-H's query 6 from Parquet.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use std::fs::File;
use std::ops::Range;

/// All local files.
#[derive(Debug, Default)]
pub(super) struct LocalFiles(LocalFileSystem);

/// `range` of a file; none where it has no such range, or cannot be read.
#[cfg(unix)]
fn read(file: &File, range: &Range<u64>) -> Option<Bytes> {
    let len = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
    let mut out: Vec<u8> = Vec::new();
    out.try_reserve_exact(len).ok()?;
    while out.len() < len {
        let at = range.start + out.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut out), at) {
            Ok(0) => return None,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    // There may have been room for more.
    out.truncate(len);
    Some(out.into())
}

#[cfg(not(unix))]
fn read(_: &File, _: &Range<u64>) -> Option<Bytes> {
    None
}

impl std::fmt::Display for LocalFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for LocalFiles {
    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (path, wanted) = (self.0.path_to_filesystem(location)?, ranges.to_vec());
        let all = move || {
            let file = File::open(path).ok()?;
            wanted.iter().map(|r| read(&file, r)).collect::<Option<Vec<_>>>()
        };
        match tokio::task::spawn_blocking(all).await {
            Ok(Some(all)) => Ok(all),
            // The library says what is wrong.
            _ => self.0.get_ranges(location, ranges).await,
        }
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.0.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: object_store::RenameOptions) -> Result<()> {
        self.0.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ranges_are_those_of_the_library() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a file");
        let bytes: Vec<u8> = (0..300_000u32).map(|i| (i * 7 % 251) as u8).collect();
        std::fs::write(&file, &bytes).unwrap();
        let at = Path::from_absolute_path(&file).unwrap();
        let ours = LocalFiles::default();
        for ranges in [
            vec![],
            vec![0..1, 5..5, 10..200_000, 299_999..300_000, 0..300_000],
            vec![0..1, 299_000..300_001],
            vec![0..1, 400_000..400_001],
        ] {
            let theirs = LocalFileSystem::new().get_ranges(&at, &ranges).await.map_err(|e| e.to_string());
            assert_eq!(ours.get_ranges(&at, &ranges).await.map_err(|e| e.to_string()), theirs, "{ranges:?}");
        }
        let good = ours.get_ranges(&at, &[10..20, 0..1]).await.unwrap();
        assert_eq!(good[0][..], bytes[10..20]);
        let missing = Path::from_absolute_path(folder.path().join("none")).unwrap();
        assert!(matches!(ours.get_ranges(&missing, &[0..1, 1..2]).await, Err(object_store::Error::NotFound { .. })));
    }
}
