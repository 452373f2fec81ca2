//! What the device thread does for a sort: buffers, dispatches, rows home.
//!
//! ```text
//! words ──> [tally, pick]* ──> mark, reduce, scan, spread, keep ──> rows up to the last that is wanted
//!   └─────────────────────────────────────────────────────────────┴──> [count, reduce, scan, spread, scatter]* ──> rows
//! ```
//!
//! Rows go to and fro between two buffers, a digit at a time. Each digit has its parameters in a slot of one uniform
//! buffer, so that all of them are one submission.

#![expect(clippy::disallowed_methods, reason = "Instant::now: how long a step took is a metric")]

use super::{BLOCK_ROWS, Job, Run, count};
use crate::gpu::dispatch::{Compiled, elapsed_ns, record};
use crate::gpu::kernel::{Pass, pass};
use crate::gpu::partials::Timings;
use crate::gpu::pool::{Lease, Role};
use crate::gpu::worker::{Worker, cancelled};
use crate::{Error, Result};
use millstream_shaders as shaders;
use millstream_shaders::layout::{self, *};
use std::rc::Rc;
use std::time::Instant;

/// Bytes between the parameters of two digits: what every device can bind at.
const SLOT_BYTES: u64 = 256;
/// Digits of a number, at most, and the step that keeps the first rows.
const SLOTS: u64 = (KEY_WORDS_MAX * (u32::BITS / DIGIT_BITS)) as u64 + 1;
const PARAMS_BYTES: u64 = size_of::<OrderParams>() as u64;

const SORT: &[Pass] = &[pass("count", false), pass("reduce", false), pass("scan", true), pass("spread", false), pass("scatter", false)];
const NARROW: &[Pass] = &[pass("tally", false), pass("pick", true)];
const KEEP: &[Pass] = &[pass("mark", false), pass("reduce", false), pass("scan", true), pass("spread", false), pass("keep", false)];

/// The buffers of a sort.
struct Held {
    columns: (Lease, u64),
    counts: (Lease, u64),
    /// Rows, or pairs of a word and a row: one is read, the other written.
    pairs: [(Lease, u64); 2],
    params: Lease,
    readback: Lease,
}

impl Held {
    fn leases(self) -> impl Iterator<Item = Lease> {
        let [a, b] = self.pairs;
        [self.columns.0, self.counts.0, a.0, b.0, self.params, self.readback].into_iter()
    }
}

/// Dispatches with the same parameters, of kernels that read buffer `from` and write the other.
struct Step {
    params: OrderParams,
    compiled: Rc<Compiled>,
    passes: &'static [Pass],
    from: usize,
}

impl Worker {
    /// The rows of `job` in order, numbered from the first row of all.
    ///
    /// # Errors
    /// `Exhausted` when memory is used up, `Closed` when the device is gone or the sort was cancelled.
    pub fn sort(&mut self, job: &Job) -> Result<Run> {
        let mut held = None;
        let mut timings = Timings { chunks: 1, ..Timings::default() };
        let result = self.scoped(|worker| worker.sorted(job, &mut held, &mut timings));
        for lease in held.into_iter().flat_map(Held::leases) {
            // After an error nobody knows whether it exists, or is still in use.
            if result.is_ok() { self.pool.give(lease) } else { self.pool.discard(lease) }
        }
        let (first, (rows, sorted)) = (count(job.rows.start)?, result?);
        Ok(Run { rows: rows.into_iter().map(|row| row + first).collect(), sorted, timings })
    }

    fn sorted(&mut self, job: &Job, held: &mut Option<Held>, timings: &mut Timings) -> Result<(Vec<u32>, u32)> {
        let started = Instant::now();
        let (scan, layout) = (shaders::COUNTS.source, layout::declarations(0, Output::Order));
        let sort = self.order_kernel(&[&layout, scan, shaders::RADIX.source], SORT)?;
        let first = match job.finds_first() {
            true => Some((
                self.order_kernel(&[&layout, scan, shaders::NARROW.source], NARROW)?,
                self.order_kernel(&[&layout, scan, shaders::KEEP.source], KEEP)?,
            )),
            false => None,
        };
        timings.compile_ns = elapsed_ns(started);
        let started = Instant::now();
        let held = held.insert(self.buffers(job)?);
        self.bring(job, held, timings)?;
        timings.upload_ns = elapsed_ns(started);
        let started = Instant::now();
        let (mut rows, mut origin) = (count(job.len())?, ORIGIN_KEYS);
        if let Some((narrow, keep)) = first {
            rows = self.first_rows(job, held, (&narrow, &keep))?;
            origin = ORIGIN_ROWS;
        }
        let returned = job.returned(rows);
        let steps = sort_steps(job, rows, origin, &sort)?;
        // Each step reads what the one before has written.
        let last = steps.len() % 2;
        let done = self.run_steps(job, held, &steps, (&held.pairs[last].0, 0, returned))?;
        self.wait(&done, &job.cancel)?;
        timings.kernel_ns = elapsed_ns(started);
        let started = Instant::now();
        let words = self.read(&held.readback.buffer, u64::from(returned) * 4, &done, &job.cancel)?;
        timings.readback_ns = elapsed_ns(started);
        timings.readback_bytes = words.len() as u64 * 4;
        Ok((words, rows))
    }

    fn order_kernel(&mut self, parts: &[&str], passes: &'static [Pass]) -> Result<Rc<Compiled>> {
        let storage = |read_only| wgpu::BufferBindingType::Storage { read_only };
        let bindings = [
            (BINDING_PARAMS, wgpu::BufferBindingType::Uniform),
            (BINDING_OUTPUT, storage(false)),
            (BINDING_COLUMNS, storage(true)),
            (BINDING_COUNTS, storage(false)),
            (BINDING_ORIGIN, storage(true)),
        ];
        self.compiled_for(&parts.concat(), &bindings, passes)
    }

    /// All of them or none: one that is refused gives the others back.
    fn buffers(&mut self, job: &Job) -> Result<Held> {
        let rows = job.len() as u64;
        let blocks = rows.div_ceil(BLOCK_ROWS as u64);
        // A count of each digit a block, and the sums of their blocks.
        let counts = u64::from(ORDER_COUNTS) + blocks * u64::from(DIGITS + 1);
        let wanted = [
            (Role::Input, rows * job.planes() as u64 * 4),
            (Role::Output, counts * 4),
            (Role::Output, rows * 8),
            (Role::Output, rows * 8),
            (Role::Params, SLOTS * SLOT_BYTES),
            (Role::Readback, rows * 4),
        ];
        let mut leases = vec![];
        for (role, bytes) in wanted {
            match self.lease(role, bytes) {
                Ok(lease) => leases.push(lease),
                Err(e) => {
                    leases.into_iter().for_each(|lease| self.pool.discard(lease));
                    return Err(e);
                }
            }
        }
        let mut all = leases.into_iter().zip(wanted).map(|(lease, (_, bytes))| (lease, bytes));
        let mut next = || all.next().ok_or_else(|| Error::bug("a buffer of a sort is missing"));
        let (columns, counts, a, b) = (next()?, next()?, next()?, next()?);
        Ok(Held { columns, counts, pairs: [a, b], params: next()?.0, readback: next()?.0 })
    }

    /// Copies the words of the job's rows to the device, and what is known of the last row that is wanted.
    fn bring(&self, job: &Job, held: &Held, timings: &mut Timings) -> Result<()> {
        cancelled(&job.cancel)?;
        for plane in 0..job.planes() {
            let words = &job.words.plane(plane)[job.rows.clone()];
            let at = (plane * job.len()) as u64 * 4;
            self.queue.write_buffer(&held.columns.0.buffer, at, bytemuck::cast_slice(words));
            timings.upload_bytes += words.len() as u64 * 4;
        }
        let mut state = vec![0; ORDER_COUNTS as usize];
        state[ORDER_WANTED as usize] = count(job.wanted.fetch)?;
        state[ORDER_LAST as usize..][..job.common.len()].copy_from_slice(&job.common);
        self.queue.write_buffer(&held.counts.0.buffer, 0, bytemuck::cast_slice(&state));
        let copied = self.submit(None)?;
        self.wait(&copied, &job.cancel)
    }

    /// Brings the rows up to the last that is wanted into the first buffer; how many there are.
    fn first_rows(&self, job: &Job, held: &Held, (narrow, keep): (&Rc<Compiled>, &Rc<Compiled>)) -> Result<u32> {
        let rows = count(job.len())?;
        let of = |digit: &super::Digit| OrderParams { plane: digit.plane, shift: digit.shift, ..params(job, rows, 0) };
        let step = |params, compiled, passes| Step { params, compiled: Rc::clone(compiled), passes, from: 1 };
        let mut steps: Vec<Step> = job.digits.iter().rev().map(|digit| step(of(digit), narrow, NARROW)).collect();
        let kept = params(job, rows, 0);
        steps.push(step(OrderParams { counts: kept.blocks * KEPT_KINDS, ..kept }.summed(), keep, KEEP));
        let done = self.run_steps(job, held, &steps, (&held.counts.0, 0, ORDER_LAST))?;
        let state = self.read(&held.readback.buffer, u64::from(ORDER_LAST) * 4, &done, &job.cancel)?;
        let all = state[ORDER_TOTAL as usize];
        // Rows with the last key come last, in the order of their numbers: where the key is known in full no more of them
        // are needed than are wanted.
        let is_exact = state[ORDER_DONE as usize] == 0;
        Ok(if is_exact { job.returned(all) } else { all })
    }

    /// Submits steps, and a copy of the first words of a buffer, from a word on, to the readback buffer.
    fn run_steps(&self, job: &Job, held: &Held, steps: &[Step], copy: (&Lease, u64, u32)) -> Result<wgpu::SubmissionIndex> {
        cancelled(&job.cancel)?;
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (slot, step) in (0..SLOTS).zip(steps) {
            self.queue.write_buffer(&held.params.buffer, slot * SLOT_BYTES, bytemuck::bytes_of(&step.params));
            let bind_group = self.order_bind_group(held, step, slot);
            record(&mut encoder, &step.compiled, &bind_group, step.passes, step.params.workgroups, None);
        }
        let (lease, from, words) = copy;
        encoder.copy_buffer_to_buffer(&lease.buffer, from * 4, &held.readback.buffer, 0, Some(u64::from(words) * 4));
        self.submit(Some(encoder.finish()))
    }

    fn order_bind_group(&self, held: &Held, step: &Step, slot: u64) -> wgpu::BindGroup {
        let entries = [
            bound(BINDING_PARAMS, &held.params, slot * SLOT_BYTES, PARAMS_BYTES),
            whole(BINDING_OUTPUT, &held.pairs[1 - step.from]),
            whole(BINDING_COLUMNS, &held.columns),
            whole(BINDING_COUNTS, &held.counts),
            whole(BINDING_ORIGIN, &held.pairs[step.from]),
        ];
        self.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &step.compiled.layout, entries: &entries })
    }
}

/// A part of a buffer as a binding.
fn bound(binding: u32, lease: &Lease, offset: u64, bytes: u64) -> wgpu::BindGroupEntry<'_> {
    let resource = wgpu::BufferBinding { buffer: &lease.buffer, offset, size: std::num::NonZeroU64::new(bytes) };
    wgpu::BindGroupEntry { binding, resource: wgpu::BindingResource::Buffer(resource) }
}

fn whole(binding: u32, (lease, bytes): &(Lease, u64)) -> wgpu::BindGroupEntry<'_> {
    bound(binding, lease, 0, *bytes)
}

/// A step a digit, least significant first, of the first `rows` rows of the first buffer, or of all.
fn sort_steps(job: &Job, rows: u32, origin: u32, sort: &Rc<Compiled>) -> Result<Vec<Step>> {
    let digits = &job.digits;
    let steps = digits.iter().enumerate().map(|(at, digit)| {
        let is = |other: Option<usize>| other.and_then(|i| digits.get(i)).is_some_and(|d| d.plane == digit.plane);
        let origin = match at {
            0 => origin,
            // The word is beside its row already, unless another was sorted by.
            _ if is(at.checked_sub(1)) => ORIGIN_PAIRS,
            _ => ORIGIN_ROWS,
        };
        let of =
            OrderParams { plane: digit.plane, shift: digit.shift, only_rows: u32::from(!is(Some(at + 1))), ..params(job, rows, origin) };
        Step { params: of.summed(), compiled: Rc::clone(sort), passes: SORT, from: at % 2 }
    });
    Ok(steps.collect())
}

/// Parameters of `rows` rows, without a digit.
fn params(job: &Job, rows: u32, origin: u32) -> OrderParams {
    let blocks = rows.div_ceil(BLOCK_ROWS as u32);
    OrderParams {
        rows,
        workgroups: job.workgroups(blocks),
        blocks,
        key_rows: job.len() as u32,
        planes: job.planes() as u32,
        plane: 0,
        shift: 0,
        origin,
        only_rows: 0,
        counts: blocks * DIGITS,
        sums: 0,
        spare: BLOCK_ROWS as u32,
    }
}

/// What is counted, in blocks.
trait Summed {
    fn summed(self) -> Self;
}

impl Summed for OrderParams {
    fn summed(self) -> Self {
        Self { sums: self.counts.div_ceil(BLOCK_ROWS as u32), ..self }
    }
}
