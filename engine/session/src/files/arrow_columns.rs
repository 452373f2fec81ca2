//! The columns of an Arrow file or stream, from its footer or its first message: DataFusion's own reading of
//! them expects another alignment than its writer makes, where a store does not give a local file.

use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{StreamDecoder, read_footer_length};
use arrow::ipc::root_as_footer;
use datafusion::error::{DataFusionError, Result};
use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use std::sync::Arc;

const MAGIC: &[u8] = b"ARROW1";
/// The length of the footer and the magic word behind it.
const TAIL: u64 = 10;

/// # Errors
/// A file that is neither, or damaged.
pub(super) async fn columns(store: &Arc<dyn ObjectStore>, file: &ObjectMeta) -> Result<SchemaRef> {
    let head = store.get_range(&file.location, 0..file.size.min(MAGIC.len() as u64)).await?;
    if head.as_ref() == MAGIC { of_file(store, file).await } else { of_stream(store, file).await }
}

async fn of_file(store: &Arc<dyn ObjectStore>, file: &ObjectMeta) -> Result<SchemaRef> {
    let cut = || damaged("the footer is not all there");
    let start = file.size.checked_sub(TAIL).ok_or_else(cut)?;
    let tail: [u8; TAIL as usize] = store.get_range(&file.location, start..file.size).await?.as_ref().try_into().map_err(|_| cut())?;
    let length = read_footer_length(tail)? as u64;
    let footer = store.get_range(&file.location, start.checked_sub(length).ok_or_else(cut)?..start).await?;
    let footer = root_as_footer(&footer).map_err(|e| damaged(&format!("the footer: {e}")))?;
    Ok(Arc::new(fb_to_schema(footer.schema().ok_or_else(|| damaged("the footer has no schema"))?)))
}

async fn of_stream(store: &Arc<dyn ObjectStore>, file: &ObjectMeta) -> Result<SchemaRef> {
    let (mut decoder, mut bytes) = (StreamDecoder::new(), store.get(&file.location).await?.into_stream());
    while let Some(chunk) = bytes.try_next().await? {
        let mut buffer = Buffer::from(chunk);
        while !buffer.is_empty() {
            decoder.decode(&mut buffer)?;
            if let Some(schema) = decoder.schema() {
                return Ok(schema);
            }
        }
    }
    Err(damaged("neither an Arrow file nor an Arrow stream"))
}

fn damaged(text: &str) -> DataFusionError {
    ArrowError::IpcError(text.to_string()).into()
}
