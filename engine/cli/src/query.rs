//! One statement: planned, run, its rows written, its time told.

use crate::Outcome;
use crate::args::Format;
use crate::grid::cut;
use crate::output::{Output, Target, print};
use crate::progress::Spinner;
use crate::terminal::{self, Foreground};
use millstream::{Session, Table};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::block_in_place;

/// How results are shown.
#[derive(Clone)]
pub struct Show {
    pub format: Format,
    pub target: Target,
    /// Rows and time after each statement.
    pub timer: bool,
    /// That, and what ran where.
    pub verbose: bool,
    pub foreground: Arc<Foreground>,
}

/// Runs a statement to its last row, or until nobody reads the rows any more.
pub async fn run(session: &Session, sql: &str, show: &Show) -> Outcome {
    let outcome = rows_of(session, sql, show).await;
    if show.foreground.is_closed() { Ok(()) } else { outcome }
}

async fn rows_of(session: &Session, sql: &str, show: &Show) -> Outcome {
    let started = Instant::now();
    let table = session.sql(sql).await?;
    let is_text = matches!(show.format, Format::Table | Format::Line) && !matches!(show.target, Target::File(_));
    if let Some((query, analyze)) = table.explained().filter(|_| is_text) {
        return explain(session, query, analyze, show).await;
    }
    let plan = table.plan().await?;
    let planned = started.elapsed();
    let _spinning = show.foreground.spin(Spinner::over(&plan));
    let mut rows = millstream::run(session, &plan)?;
    let schema = rows.schema();
    let (mut output, mut read) = (None, Duration::ZERO);
    if !schema.fields().is_empty() {
        output = Some(Output::new(show.format, &show.target, &show.foreground, &schema)?);
    }
    while let Some(batch) = rows.next().await {
        let (batch, at) = (batch?, Instant::now());
        if let Some(output) = &mut output {
            // A pager may take its time: another thread goes on with the query.
            block_in_place(|| output.write(&batch))?;
        }
        if show.foreground.is_paging() {
            read += at.elapsed();
        }
    }
    // What the user spent on reading is no time of the query.
    let all = started.elapsed().saturating_sub(read);
    // Its memory is free while a pager stays open.
    drop(rows);
    let count = output.as_ref().map(|o| o.rows);
    if let Some(output) = output {
        block_in_place(|| output.finish())?;
    }
    show.foreground.clear();
    tell(show, count, planned, all);
    if show.verbose && count.is_some() {
        eprint!("{}", millstream::profile_of(&plan));
    }
    Ok(())
}

fn tell(show: &Show, count: Option<usize>, planned: Duration, all: Duration) {
    let rows = |n| if n == 1 { "1 row".to_string() } else { format!("{n} rows") };
    match count {
        Some(n) if show.verbose => {
            eprintln!("{} in {:.1} ms, {:.1} ms of them planning", rows(n), all.as_secs_f64() * 1e3, planned.as_secs_f64() * 1e3);
        }
        Some(n) if show.timer => eprintln!("{} in {}", rows(n), time(all)),
        None if show.timer => eprintln!("done in {}", time(all)),
        _ => {}
    }
}

fn time(t: Duration) -> String {
    let s = t.as_secs_f64();
    if s < 10.0 { format!("{:.1} ms", s * 1e3) } else { format!("{s:.1} s") }
}

/// The plan and what runs where, each line within the terminal; after a run when it is to be analysed.
async fn explain(session: &Session, query: Table, analyze: bool, show: &Show) -> Outcome {
    let plan = query.plan().await?;
    let mut text = datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string();
    if analyze {
        let _spinning = show.foreground.spin(Spinner::over(&plan));
        let mut rows = millstream::run(session, &plan)?;
        let mut count = 0;
        let started = Instant::now();
        while let Some(batch) = rows.next().await {
            count += batch?.num_rows();
        }
        text += &format!("\n{count} rows in {:.1} ms\n", started.elapsed().as_secs_f64() * 1e3);
    }
    text += &format!("\n{}", millstream::profile_of(&plan));
    let width = terminal::width().filter(|_| !show.verbose).unwrap_or(usize::MAX);
    let text: String = text.lines().map(|l| cut(l, width) + "\n").collect();
    block_in_place(|| print(&text, &show.target, &show.foreground))
}
