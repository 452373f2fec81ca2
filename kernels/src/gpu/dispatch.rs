//! What the device thread does for a run: upload, compile, dispatch, read back.

#![expect(clippy::disallowed_methods, reason = "Instant::now: how long a step took is a metric")]

use super::clock::Clock;
use super::index::Index;
use super::kernel::{Kernel, Pass};
use super::partials::Timings;
use super::pool::{Lease, Role};
use super::resident::{Copied, ToKeep};
use super::worker::{Worker, cancelled};
use crate::{Error, ErrorKind, Result};
use millstream_shaders::layout::{BINDING_COLUMNS, BINDING_OUTPUT, BINDING_PARAMS, BINDING_TABLES, Params, SELECTED_TOTAL, WORKGROUP_SIZE};
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Kernels kept compiled; when there are more, all are forgotten.
const KERNELS_MAX: usize = 64;

/// A compiled kernel.
pub(super) struct Compiled {
    pub(super) layout: wgpu::BindGroupLayout,
    /// One a pass.
    pipelines: Vec<wgpu::ComputePipeline>,
}

/// What a run holds on the device.
#[derive(Default)]
pub(super) struct RunBuffers {
    columns: Option<Lease>,
    params: Option<Lease>,
    tables: Vec<(Lease, u64)>,
    /// Groups or selected rows, and how many bytes of it count.
    output: Option<(Lease, u64)>,
    readback: Option<Lease>,
    /// The output holds groups of this run.
    counting: bool,
    /// A step failed: nobody knows what is in these buffers, or whether they exist.
    failed: bool,
}

/// One chunk of rows, and what to do with it.
pub(super) struct Chunk {
    pub kernel: Kernel,
    pub words: Vec<u32>,
    /// The parts of `words` to upload.
    pub used: Vec<Range<usize>>,
    /// The parts that are already on the device.
    pub copied: Vec<Copied>,
    /// The parts that are to stay there, and the moment of the query.
    pub to_keep: Vec<ToKeep>,
    pub moment: u64,
    pub rows: u32,
    pub workgroups: u32,
    pub cancel: Arc<AtomicBool>,
}

impl Worker {
    /// Runs a step of run `id`; after a failure the run's buffers are never used again.
    fn step<T>(&mut self, id: u64, work: impl FnOnce(&mut Self, &mut RunBuffers) -> Result<T>) -> Result<T> {
        // Taken out for the step, so that the step may use all of the worker; back also if it fails.
        let mut run = self.runs.remove(&id).unwrap_or_default();
        let result = if run.failed {
            Err(Error::new(ErrorKind::Closed, "gpu: an earlier step of this run failed"))
        } else {
            self.scoped(|worker| work(worker, &mut run))
        };
        if result.as_ref().is_err_and(|e: &Error| e.kind() == ErrorKind::Exhausted) {
            // The driver has less memory than the limit says.
            while self.make_room() {}
        }
        run.failed |= result.is_err();
        self.runs.insert(id, run);
        result
    }

    /// Begins run `id` with its join tables; those by hash get their slots filled.
    pub fn open_run(&mut self, id: u64, tables: &[Vec<u32>], to_fill: &[Index], cancel: &AtomicBool) -> Result<Timings> {
        let started = Instant::now();
        self.step(id, |worker, run| {
            let mut timings = Timings::default();
            run.params = Some(worker.lease(Role::Params, size_of::<Params>() as u64)?);
            for words in tables {
                cancelled(cancel)?;
                let bytes = words.len() as u64 * 4;
                let lease = worker.lease(Role::Input, bytes)?;
                worker.queue.write_buffer(&lease.buffer, 0, bytemuck::cast_slice(words));
                run.tables.push((lease, bytes));
                timings.upload_bytes += bytes;
            }
            if !tables.is_empty() {
                let copied = worker.submit(None)?;
                worker.wait(&copied, cancel)?;
            }
            timings.upload_ns = elapsed_ns(started);
            let started = Instant::now();
            to_fill.iter().try_for_each(|index| worker.fill_slots(run, index, cancel))?;
            timings.kernel_ns = elapsed_ns(started);
            Ok(timings)
        })
    }

    /// Makes a hash table of the rows and keys that lie beside its slots.
    fn fill_slots(&mut self, run: &RunBuffers, index: &Index, cancel: &AtomicBool) -> Result<()> {
        let (kernel, words, workgroups) = index.kernel(self.workgroups_max);
        let compiled = self.compiled(&kernel)?;
        let missing = || Error::bug("a run has no parameters or no such table on the device");
        let (table, bytes) = run.tables.get(index.buffer).ok_or_else(missing)?;
        let params = run.params.as_ref().ok_or_else(missing)?;
        self.queue.write_buffer(&params.buffer, 0, bytemuck::bytes_of(&words));
        let bound = vec![(BINDING_PARAMS, &params.buffer, size_of::<Params>() as u64), (BINDING_OUTPUT, &table.buffer, *bytes)];
        let bind_group = self.bind_group(&compiled, bound);
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        record(&mut encoder, &compiled, &bind_group, kernel.passes, workgroups, None);
        let done = self.submit(Some(encoder.finish()))?;
        self.wait(&done, cancel)
    }

    /// Runs one chunk and gives its memory back.
    pub fn chunk(&mut self, id: u64, chunk: Chunk) -> Result<(Vec<u32>, Timings)> {
        let mut timings = Timings { chunks: 1, ..Timings::default() };
        self.step(id, |worker, run| worker.compute(run, &chunk, &mut timings))?;
        Ok((chunk.words, timings))
    }

    /// Uploads a chunk and runs its kernel.
    fn compute(&mut self, run: &mut RunBuffers, chunk: &Chunk, timings: &mut Timings) -> Result<()> {
        cancelled(&chunk.cancel)?;
        let started = Instant::now();
        let compiled = self.compiled(&chunk.kernel)?;
        timings.compile_ns = elapsed_ns(started);
        self.upload(run, chunk, timings)?;
        let started = Instant::now();
        timings.device_ns = self.dispatch(run, chunk, &compiled)?;
        timings.kernel_ns = elapsed_ns(started);
        Ok(())
    }

    /// The groups of run `id` as words; the next chunk begins with empty ones.
    pub fn drain(&mut self, id: u64, cancel: &AtomicBool) -> Result<(Vec<u32>, Timings)> {
        let started = Instant::now();
        self.step(id, |worker, run| {
            let mut timings = Timings::default();
            let Some(bytes) = run.output.as_ref().map(|(_, bytes)| *bytes) else {
                return Ok((Vec::new(), timings));
            };
            let words = worker.home(run, &[(0, bytes / 4)], cancel)?;
            worker.let_go(run);
            timings.readback_bytes = bytes;
            timings.readback_ns = elapsed_ns(started);
            Ok((words, timings))
        })
    }

    /// Runs one chunk that selects rows. Of the parts of its output, given as first word and words a row,
    /// those of the rows that survive come back, one after the other, and how many rows these are.
    pub fn select(&mut self, id: u64, chunk: Chunk, parts: &[(u32, u32)]) -> Result<(u32, Vec<u32>, Timings)> {
        let mut timings = Timings { chunks: 1, ..Timings::default() };
        self.step(id, |worker, run| {
            worker.compute(run, &chunk, &mut timings)?;
            let started = Instant::now();
            let total = worker.home(run, &[(u64::from(SELECTED_TOTAL), 1)], &chunk.cancel)?;
            let rows = total.first().copied().unwrap_or(0);
            let spans: Vec<_> = parts.iter().map(|(at, words)| (u64::from(*at), u64::from(*words) * u64::from(rows))).collect();
            let words = if rows == 0 { vec![] } else { worker.home(run, &spans, &chunk.cancel)? };
            worker.let_go(run);
            timings.readback_bytes = (total.len() + words.len()) as u64 * 4;
            timings.readback_ns = elapsed_ns(started);
            Ok((rows, words, timings))
        })
    }

    /// Copies spans of the output, given as first word and number of words, to the host.
    fn home(&mut self, run: &mut RunBuffers, spans: &[(u64, u64)], cancel: &AtomicBool) -> Result<Vec<u32>> {
        let bytes = 4 * spans.iter().map(|(_, words)| words).sum::<u64>();
        let readback = self.lease(Role::Readback, bytes)?;
        let readback = run.readback.insert(readback);
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut to = 0;
        for (at, words) in spans {
            if let Some((output, _)) = &run.output {
                encoder.copy_buffer_to_buffer(&output.buffer, 4 * at, &readback.buffer, to, Some(4 * words));
            }
            to += 4 * words;
        }
        let copied = self.submit(Some(encoder.finish()))?;
        let words = self.read(&readback.buffer, bytes, &copied, cancel)?;
        if let Some(lease) = run.readback.take() {
            self.pool.give(lease);
        }
        Ok(words)
    }

    /// Gives the output back.
    fn let_go(&mut self, run: &mut RunBuffers) {
        if let Some((lease, _)) = run.output.take() {
            self.pool.give(lease);
        }
        run.counting = false;
    }

    /// Frees what run `id` holds.
    pub fn close_run(&mut self, id: u64) {
        let Some(run) = self.runs.remove(&id) else {
            return;
        };
        let tables = run.tables.into_iter().map(|(lease, _)| lease);
        let others = [run.columns, run.params, run.output.map(|(lease, _)| lease)];
        for lease in tables.chain(others.into_iter().flatten()) {
            if run.failed { self.pool.discard(lease) } else { self.pool.give(lease) }
        }
        if let Some(readback) = run.readback {
            self.pool.discard(readback);
        }
    }

    fn compiled(&mut self, kernel: &Kernel) -> Result<Rc<Compiled>> {
        let storage = |read_only| wgpu::BufferBindingType::Storage { read_only };
        let mut bindings = vec![(BINDING_PARAMS, wgpu::BufferBindingType::Uniform), (BINDING_OUTPUT, storage(false))];
        bindings.extend(kernel.has_columns.then(|| (BINDING_COLUMNS, storage(true))));
        bindings.extend((0..kernel.tables as u32).map(|i| (BINDING_TABLES + i, storage(true))));
        self.compiled_for(&kernel.source, &bindings, kernel.passes)
    }

    /// The passes of a module, compiled once.
    pub(super) fn compiled_for(
        &mut self,
        source: &str,
        bindings: &[(u32, wgpu::BufferBindingType)],
        passes: &[Pass],
    ) -> Result<Rc<Compiled>> {
        if let Some(compiled) = self.kernels.get(source) {
            return Ok(Rc::clone(compiled));
        }
        // Scopes of its own: a kernel that failed must not be remembered.
        let compiled = self.scoped(|worker| Ok(Rc::new(worker.compile(source, bindings, passes))))?;
        if self.kernels.len() == KERNELS_MAX {
            self.kernels.clear();
        }
        self.kernels.insert(source.to_string(), Rc::clone(&compiled));
        Ok(compiled)
    }

    fn compile(&self, source: &str, bindings: &[(u32, wgpu::BufferBindingType)], passes: &[Pass]) -> Compiled {
        let module =
            self.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source: wgpu::ShaderSource::Wgsl(source.into()) });
        let entries: Vec<_> = bindings
            .iter()
            .map(|(binding, ty)| wgpu::BindGroupLayoutEntry {
                binding: *binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer { ty: *ty, has_dynamic_offset: false, min_binding_size: None },
                count: None,
            })
            .collect();
        let layout = self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = |entry: &str| {
            self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: None,
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some(entry),
                // The shaders clear their workgroup memory themselves, all invocations at once.
                compilation_options: wgpu::PipelineCompilationOptions {
                    zero_initialize_workgroup_memory: false,
                    ..wgpu::PipelineCompilationOptions::default()
                },
                cache: None,
            })
        };
        let pipelines = passes.iter().map(|pass| pipeline(pass.entry)).collect();
        Compiled { layout, pipelines }
    }

    /// Copies the used parts of the chunk and its parameters, and waits until they are there.
    fn upload(&mut self, run: &mut RunBuffers, chunk: &Chunk, timings: &mut Timings) -> Result<()> {
        let started = Instant::now();
        let bytes = (chunk.words.len() as u64 * 4).max(4);
        if let Some(small) = run.columns.take_if(|lease| lease.buffer.size() < bytes) {
            self.pool.give(small);
        }
        let columns = match run.columns.take() {
            Some(lease) => run.columns.insert(lease),
            None => run.columns.insert(self.lease(Role::Input, bytes)?),
        };
        for span in &chunk.used {
            let words = &chunk.words[span.clone()];
            self.queue.write_buffer(&columns.buffer, span.start as u64 * 4, bytemuck::cast_slice(words));
            timings.upload_bytes += words.len() as u64 * 4;
        }
        let stride = chunk.workgroups * WORKGROUP_SIZE;
        let params = Params::new(chunk.rows, stride, chunk.kernel.groups, &chunk.kernel.params);
        if let Some(lease) = &run.params {
            self.queue.write_buffer(&lease.buffer, 0, bytemuck::bytes_of(&params));
        }
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for part in &chunk.copied {
            let from_buffer = self.kept.get(&part.column.slot).ok_or_else(|| Error::bug("a column that stayed is gone"))?;
            for (from, to, words) in part.spans.iter().map(|(from, to, words)| (*from as u64 * 4, *to as u64 * 4, *words as u64 * 4)) {
                encoder.copy_buffer_to_buffer(&from_buffer.buffer, from, &columns.buffer, to, Some(words));
                timings.kept_bytes += words;
            }
        }
        let begun = self.begin_keeping(&chunk.to_keep, chunk.moment, &columns.buffer, &mut encoder);
        let copied = self.submit(Some(encoder.finish())).and_then(|copied| self.wait(&copied, &chunk.cancel));
        self.end_keeping(begun, copied.is_ok());
        copied?;
        timings.upload_ns = elapsed_ns(started);
        Ok(())
    }

    /// Runs the kernel over a chunk; nanoseconds by the device's clock.
    fn dispatch(&mut self, run: &mut RunBuffers, chunk: &Chunk, compiled: &Compiled) -> Result<u64> {
        let bytes = u64::from(chunk.kernel.output_words) * 4;
        let (output, _) = match run.output.take() {
            Some(output) => run.output.insert(output),
            None => run.output.insert((self.lease(Role::Output, bytes)?, bytes)),
        };
        let missing = || Error::bug("a run has no columns or parameters on the device");
        let columns = run.columns.as_ref().ok_or_else(missing)?;
        let params = run.params.as_ref().ok_or_else(missing)?;
        let columns_bytes = (chunk.words.len() as u64 * 4).max(4);
        let mut bound = vec![
            (BINDING_PARAMS, &params.buffer, size_of::<Params>() as u64),
            (BINDING_OUTPUT, &output.buffer, bytes),
            (BINDING_COLUMNS, &columns.buffer, columns_bytes),
        ];
        bound.extend((BINDING_TABLES..).zip(&run.tables).map(|(i, (lease, bytes))| (i, &lease.buffer, *bytes)));
        let bind_group = self.bind_group(compiled, bound);
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        if chunk.kernel.groups > 0 && !run.counting {
            encoder.clear_buffer(&output.buffer, 0, Some(bytes));
        }
        record(&mut encoder, compiled, &bind_group, chunk.kernel.passes, chunk.workgroups, self.clock.as_ref());
        let done = self.submit(Some(encoder.finish()))?;
        run.counting = true;
        self.passed_ns(&done, &chunk.cancel)
    }

    fn bind_group(&self, compiled: &Compiled, bound: Vec<(u32, &wgpu::Buffer, u64)>) -> wgpu::BindGroup {
        let entries: Vec<_> = bound
            .into_iter()
            .map(|(binding, buffer, bytes)| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: 0, size: std::num::NonZeroU64::new(bytes) }),
            })
            .collect();
        self.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &compiled.layout, entries: &entries })
    }

    /// The first `bytes` of a readback buffer, once `copied` is done.
    pub(super) fn read(&self, buffer: &wgpu::Buffer, bytes: u64, copied: &wgpu::SubmissionIndex, cancel: &AtomicBool) -> Result<Vec<u32>> {
        let mapped = Arc::new(Mutex::new(None));
        let answer = Arc::clone(&mapped);
        buffer.map_async(wgpu::MapMode::Read, 0..bytes, move |result| {
            if let Ok(mut slot) = answer.lock() {
                *slot = Some(result.is_ok());
            }
        });
        self.wait(copied, cancel)?;
        let arrived = mapped.lock().is_ok_and(|slot| *slot == Some(true));
        if !arrived {
            return Err(Error::new(ErrorKind::Closed, "gpu: results cannot be read back"));
        }
        let view = buffer.get_mapped_range(0..bytes).map_err(|e| Error::new(ErrorKind::Closed, format!("gpu: {e}")))?;
        let words = bytemuck::pod_collect_to_vec(&view);
        drop(view);
        buffer.unmap();
        Ok(words)
    }
}

/// The passes of a kernel, one after the other.
pub(super) fn record(
    encoder: &mut wgpu::CommandEncoder,
    compiled: &Compiled,
    bind_group: &wgpu::BindGroup,
    passes: &[Pass],
    workgroups: u32,
    clock: Option<&Clock>,
) {
    let timestamp_writes = clock.map(Clock::around);
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
    pass.set_bind_group(0, bind_group, &[]);
    for (pipeline, of) in compiled.pipelines.iter().zip(passes) {
        pass.set_pipeline(pipeline);
        pass.dispatch_workgroups(if of.alone { 1 } else { workgroups }, 1, 1);
    }
    drop(pass);
    if let Some(clock) = clock {
        clock.bring_home(encoder);
    }
}

pub(super) fn elapsed_ns(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
