//! The order of the columns of JSON: that of the first object's keys, and not of the alphabet.

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::error::DataFusionError;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use std::sync::Arc;

/// Bytes at the beginning of a file in which keys are looked for.
const LOOKED_AT: usize = 1 << 20;

/// The same columns: first those of the first object, in its order. Where it cannot be told, as they are.
pub(super) async fn in_order(
    store: &Arc<dyn ObjectStore>,
    file: &ObjectMeta,
    compression: FileCompressionType,
    schema: SchemaRef,
) -> SchemaRef {
    let Ok(file) = store.get(&file.location).await else { return schema };
    let Ok(mut bytes) = compression.convert_stream(file.into_stream().map_err(DataFusionError::from).boxed()) else { return schema };
    let mut head = vec![];
    let mut keys = vec![];
    while let Ok(Some(chunk)) = bytes.try_next().await {
        head.extend_from_slice(&chunk);
        let ended;
        (keys, ended) = keys_of_first(&head);
        if ended || head.len() > LOOKED_AT {
            break;
        }
    }
    let mut at: Vec<usize> = keys.iter().filter_map(|k| schema.index_of(k).ok()).collect();
    let mut seen = vec![false; schema.fields().len()];
    at.retain(|i| !std::mem::replace(&mut seen[*i], true));
    at.extend((0..seen.len()).filter(|i| !seen[*i]));
    schema.project(&at).map_or(schema, |s: Schema| Arc::new(s))
}

/// Keys of the first object in `text`, and whether it ends there. Keys with an escape are left out.
fn keys_of_first(text: &[u8]) -> (Vec<String>, bool) {
    let (mut keys, mut depth, mut is_key) = (vec![], 0usize, false);
    let mut at = 0;
    // An array of objects is one level deeper.
    let mut objects = 1;
    while at < text.len() {
        match text[at] {
            b'[' if depth == 0 => (depth, objects) = (1, 2),
            b'{' | b'[' => {
                depth += 1;
                is_key = depth == objects;
            }
            b'}' | b']' if depth <= objects => return (keys, true),
            b'}' | b']' => depth -= 1,
            b',' => is_key = depth == objects,
            b'"' => {
                let start = at + 1;
                at = start;
                while at < text.len() && text[at] != b'"' {
                    at += 1 + usize::from(text[at] == b'\\');
                }
                if at >= text.len() {
                    return (keys, false);
                }
                let key = &text[start..at];
                if std::mem::take(&mut is_key) && !key.contains(&b'\\') {
                    keys.push(String::from_utf8_lossy(key).into_owned());
                }
            }
            _ => {}
        }
        at += 1;
    }
    (keys, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_in_the_order_of_the_first_object() {
        let of = |text: &str| keys_of_first(text.as_bytes());
        let all = |keys: &[&str]| (keys.iter().map(|k| k.to_string()).collect::<Vec<_>>(), true);
        assert_eq!(of(r#" {"z": 1, "a": {"q": [{"r": 2}, "s"]}, "b": "x,\"y", "c": []}{"d": 1}"#), all(&["z", "a", "b", "c"]));
        assert_eq!(of(r#"[{"z": [1, 2], "a": "}"}, {"b": 1}]"#), all(&["z", "a"]));
        assert_eq!(of("{}"), all(&[]));
        assert_eq!(of(r#"{"a": 1, "b"#), (vec!["a".to_string()], false));
        assert_eq!(of("]"), all(&[]));
    }
}
