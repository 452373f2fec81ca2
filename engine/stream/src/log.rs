//! The history of a job in an object store.
//!
//! Manifests are numbered without gaps and put only where there is none, so that there is one line of history.
//! A driver begins by putting one: a copy of the last, with a generation of its own. An older driver then finds
//! its next number taken, by a newer generation, and stops. State files have names that are made of generation and
//! number and never used twice.

use crate::operator::{OperatorState, StateRows};
use crate::sink::Attempt;
use crate::{Error, ErrorKind, Result};
use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The version of manifests and state files.
const FORMAT: u32 = 1;

/// What a state file begins with.
const MAGIC: &[u8; 8] = b"MSSTATE1";

/// A file of state is closed when it has so many bytes.
const FILE_BYTES: usize = 16 << 20;

/// Manifests that are kept: the last, and those before it that a slow reader may be at.
const KEPT: u64 = 3;

/// Where a split is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitPosition {
    /// The number of its source.
    pub source: usize,
    /// Its id.
    pub split: String,
    /// The offset behind the last row that counts.
    pub offset: u64,
    /// Whether it was read to its end.
    pub ended: bool,
    /// The greatest event time so far.
    pub greatest: Option<i64>,
}

/// A file of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateFile {
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

impl StateFile {
    /// Generation and checkpoint.
    fn attempt(&self) -> (Option<&str>, Option<&str>) {
        let mut parts = self.name.split('-');
        (parts.next(), parts.next())
    }
}

/// A checkpoint: all that is needed to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub(crate) format: u32,
    /// From 1 on, without gaps.
    pub number: u64,
    /// Whose it is.
    pub generation: u64,
    /// What the state depends on.
    pub(crate) fingerprint: String,
    /// Epochs run so far.
    pub epoch: u64,
    /// Event times before it are complete.
    pub watermark: Option<i64>,
    /// Where every split is.
    pub splits: Vec<SplitPosition>,
    pub(crate) operators: BTreeMap<String, OperatorState>,
    pub(crate) state: BTreeMap<String, Vec<StateFile>>,
    /// What each sink has to publish.
    pub(crate) outputs: Vec<Vec<String>>,
    /// Whether the input had ended.
    pub finished: bool,
}

impl Manifest {
    /// What a job begins with.
    pub(crate) fn begin(fingerprint: String, sinks: usize) -> Self {
        Self {
            format: FORMAT,
            number: 0,
            generation: 0,
            fingerprint,
            epoch: 0,
            watermark: None,
            splits: vec![],
            operators: BTreeMap::new(),
            state: BTreeMap::new(),
            outputs: vec![vec![]; sinks],
            finished: false,
        }
    }

    /// Checkpoints that the state of an operator is made of, at most.
    pub(crate) fn chain(&self) -> u64 {
        let checkpoints = |files: &Vec<StateFile>| files.chunk_by(|a, b| a.attempt() == b.attempt()).count() as u64;
        self.state.values().map(checkpoints).max().unwrap_or(0)
    }

    fn files(&self) -> impl Iterator<Item = &str> {
        self.state.values().flatten().map(|f| f.name.as_str())
    }
}

/// The folder of a job's manifests and state.
#[derive(Clone, Debug)]
pub struct Log {
    store: Arc<dyn ObjectStore>,
    folder: Path,
}

impl Log {
    /// The log in `folder` of `store`.
    pub fn new(store: Arc<dyn ObjectStore>, folder: Path) -> Self {
        Self { store, folder }
    }

    fn manifest(&self, number: u64) -> Path {
        self.folder.clone().join("manifests").join(format!("{number:020}.json"))
    }

    fn state(&self, name: &str) -> Path {
        self.folder.clone().join("state").join(name)
    }

    /// The last manifest; none where the job never began.
    ///
    /// # Errors
    /// `Retry` when the store cannot be reached, `Corrupt` for what is no manifest, `Unsupported` for one of a newer version.
    pub async fn last(&self) -> Result<Option<Manifest>> {
        match self.numbers().await?.last() {
            Some(number) => self.read(*number).await.map(Some),
            None => Ok(None),
        }
    }

    async fn numbers(&self) -> Result<BTreeSet<u64>> {
        let folder = self.folder.clone().join("manifests");
        let listed: Vec<_> = self.store.list(Some(&folder)).try_collect().await.map_err(|e| outside("list manifests in", &folder, e))?;
        let number = |p: &Path| p.filename()?.strip_suffix(".json")?.parse().ok();
        Ok(listed.iter().filter_map(|o| number(&o.location)).collect())
    }

    async fn read(&self, number: u64) -> Result<Manifest> {
        let path = self.manifest(number);
        let bytes = self.get(&path).await?;
        let corrupt = |e: &dyn std::fmt::Display| Error::new(ErrorKind::Corrupt, format!("{path} is no manifest: {e}"));
        let head: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| corrupt(&e))?;
        let format = head.get("format").and_then(serde_json::Value::as_u64).ok_or_else(|| corrupt(&"it has no format"))?;
        if format != u64::from(FORMAT) {
            let text = format!("{path} has format {format}, this version of Millstream reads format {FORMAT}");
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        serde_json::from_value(head).map_err(|e| corrupt(&e))
    }

    async fn get(&self, path: &Path) -> Result<Bytes> {
        let got = self.store.get(path).await.map_err(|e| outside("read", path, e))?;
        got.bytes().await.map_err(|e| outside("read", path, e))
    }

    /// Begins a generation with what the last one left, or with `first`.
    ///
    /// # Errors
    /// As [`Log::last`]; `Invalid` for the log of another job.
    pub(crate) async fn claim(&self, first: &Manifest) -> Result<Manifest> {
        loop {
            let last = self.last().await?.unwrap_or_else(|| first.clone());
            if last.fingerprint != first.fingerprint {
                let text = format!(
                    "the checkpoints in {} are of another job: it is {}, they are of {}",
                    self.folder, first.fingerprint, last.fingerprint
                );
                return Err(Error::new(ErrorKind::Invalid, text));
            }
            if last.outputs.len() != first.outputs.len() {
                let text = format!("the checkpoints in {} are of a job with {} sinks", self.folder, last.outputs.len());
                return Err(Error::new(ErrorKind::Invalid, text));
            }
            let mine = Manifest { number: last.number + 1, generation: last.generation + 1, ..last };
            if self.put(&mine).await? && self.is_last(mine.number).await? {
                return Ok(mine);
            }
        }
    }

    /// Makes a checkpoint true.
    ///
    /// # Errors
    /// `Closed` when another driver has begun; `Retry` when the store cannot be reached.
    pub(crate) async fn commit(&self, manifest: &Manifest) -> Result<()> {
        // A put that was retried below us may find its own first try.
        let put = self.put(manifest).await? || self.read(manifest.number).await? == *manifest;
        if put && self.is_last(manifest.number).await? {
            return Ok(());
        }
        let newer = self.last().await?.map_or(0, |m| m.generation);
        let text = format!("generation {} was replaced by generation {newer}: another driver runs this job", manifest.generation);
        Err(Error::new(ErrorKind::Closed, text))
    }

    /// Whether no manifest is behind number `number`. One whose number was taken and swept since could be put again by a
    /// driver that slept all the while: it is no part of the history, as the greatest number is never swept.
    async fn is_last(&self, number: u64) -> Result<bool> {
        Ok(self.numbers().await?.last().is_none_or(|last| *last <= number))
    }

    async fn put(&self, manifest: &Manifest) -> Result<bool> {
        let path = self.manifest(manifest.number);
        let text = serde_json::to_vec_pretty(manifest).map_err(|e| Error::new(ErrorKind::Bug, e))?;
        match self.store.put_opts(&path, PutPayload::from(text), PutMode::Create.into()).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(e) => Err(outside("write", &path, e)),
        }
    }

    /// Writes files of state: none if there are no rows, and not much of it in memory at a time.
    ///
    /// # Errors
    /// What making the rows raises; `Retry` when the store cannot be reached.
    pub(crate) async fn write_state(&self, of: Attempt, operator: &str, mut rows: StateRows) -> Result<Vec<StateFile>> {
        let mut files = vec![];
        loop {
            // Beside epochs that go on: it must not hold up a thread that they wait for.
            let encoded = tokio::task::spawn_blocking(move || {
                let bytes = encoded(&mut rows)?;
                Ok::<_, Error>((rows, bytes))
            });
            let (rest, bytes) = encoded.await.map_err(|e| Error::new(ErrorKind::Bug, e))??;
            let Some(bytes) = bytes else { return Ok(files) };
            rows = rest;
            let name = format!("{:08}-{:020}-{:04}-{operator}", of.generation, of.checkpoint, files.len());
            let (path, len) = (self.state(&name), bytes.len() as u64);
            // The name is of this attempt alone: what is there is a first try of this very put.
            self.store.put(&path, PutPayload::from(bytes)).await.map_err(|e| outside("write", &path, e))?;
            files.push(StateFile { name, bytes: len });
        }
    }

    /// Reads a file of state.
    ///
    /// # Errors
    /// `Corrupt` for what is none; `Retry` when the store cannot be reached.
    pub(crate) async fn read_state(&self, file: &StateFile) -> Result<Vec<RecordBatch>> {
        let (path, len) = (self.state(&file.name), file.bytes);
        let bytes = self.get(&path).await?;
        let decoded = tokio::task::spawn_blocking(move || {
            decoded(&bytes, len).map_err(|e| Error::new(ErrorKind::Corrupt, format!("{path} is no state of this job: {e}")))
        });
        decoded.await.map_err(|e| Error::new(ErrorKind::Bug, e))?
    }

    /// Removes manifests before the last few, and state of this and older generations that none of those that
    /// are left names. The state of a newer generation is not ours to judge.
    ///
    /// # Errors
    /// `Retry` when the store cannot be reached.
    pub(crate) async fn sweep(&self, last: &Manifest) -> Result<()> {
        let numbers = self.numbers().await?;
        let mut named: BTreeSet<String> = last.files().map(Into::into).collect();
        for number in &numbers {
            if number + KEPT > last.number {
                named.extend(self.read(*number).await?.files().map(Into::into));
            }
        }
        let folder = self.folder.clone().join("state");
        let listed: Vec<_> = self.store.list(Some(&folder)).try_collect().await.map_err(|e| outside("list", &folder, e))?;
        for file in listed {
            let name = file.location.filename().unwrap_or_default();
            let generation: Option<u64> = name.split('-').next().and_then(|g| g.parse().ok());
            // A file of this generation that is not named yet is of a checkpoint on its way: there is none, we are it.
            if !named.contains(name) && generation.is_some_and(|g| g <= last.generation) {
                self.store.delete(&file.location).await.map_err(|e| outside("remove", &file.location, e))?;
            }
        }
        for number in numbers.iter().filter(|n| **n + KEPT <= last.number) {
            let path = self.manifest(*number);
            self.store.delete(&path).await.map_err(|e| outside("remove", &path, e))?;
        }
        Ok(())
    }
}

/// A file of the next rows of state, if there are any: each batch as a stream of its own, for they differ in their types.
fn encoded(rows: &mut StateRows) -> Result<Option<Vec<u8>>> {
    let mut bytes = MAGIC.to_vec();
    while let Some(batch) = if bytes.len() < FILE_BYTES { rows.next().transpose()? } else { None } {
        let at = bytes.len();
        bytes.extend_from_slice(&[0; 8]);
        let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema())?;
        writer.write(&batch)?;
        writer.finish()?;
        drop(writer);
        let len = (bytes.len() - at - 8) as u64;
        bytes[at..at + 8].copy_from_slice(&len.to_le_bytes());
    }
    Ok((bytes.len() > MAGIC.len()).then_some(bytes))
}

/// What [`encoded`] made `len` bytes of.
fn decoded(bytes: &[u8], len: u64) -> Result<Vec<RecordBatch>, ArrowError> {
    let cut_off = || ArrowError::ParseError("it is cut off".into());
    if bytes.len() as u64 != len || !bytes.starts_with(MAGIC) {
        return Err(ArrowError::ParseError(format!("{} bytes, {len} were written", bytes.len())));
    }
    let (mut rest, mut rows) = (&bytes[MAGIC.len()..], vec![]);
    while let Some((len, more)) = rest.split_first_chunk::<8>() {
        let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|_| cut_off())?;
        let piece = more.get(..len).ok_or_else(cut_off)?;
        for batch in StreamReader::try_new(piece, None)? {
            rows.push(batch?);
        }
        rest = &more[len..];
    }
    if rest.is_empty() { Ok(rows) } else { Err(cut_off()) }
}

fn outside(doing: &str, path: &Path, e: object_store::Error) -> Error {
    Error::outside(format!("cannot {doing} {path}"), e)
}
