//! `millstream sql`: statements over named files.

use crate::args::{Common, Format, SqlArgs};
use crate::grid::{cut, terminal_width};
use crate::output::{Output, format_of, print};
use crate::progress::Spinner;
use crate::statements::split;
use crate::{Outcome, Usage};
use millstream::{Session, Table};
use std::io::{IsTerminal, Write};
use std::time::Instant;

pub async fn run(a: &SqlArgs, common: &Common) -> Outcome {
    let text = match (&a.command, &a.file) {
        (Some(c), _) => Some(c.clone()),
        (None, Some(f)) => Some(std::fs::read_to_string(f).map_err(|e| format!("cannot read {}: {e}", f.display()))?),
        (None, None) => None,
    };
    let session = Session::with_options(common.options())?;
    for t in &a.tables {
        session.register(&t.name, &t.path).await?;
    }
    let shell = Shell { session, format: format_of(a.format, a.output.as_deref()), args: a, verbose: common.verbose };
    match text {
        Some(text) => shell.all(&text).await,
        None => shell.interactive().await,
    }
}

struct Shell<'a> {
    session: Session,
    format: Format,
    args: &'a SqlArgs,
    verbose: bool,
}

impl Shell<'_> {
    /// Runs the statements of a text, one after the other, to the first that fails.
    async fn all(&self, text: &str) -> Outcome {
        let statements = split(text).map_err(|e| format!("SQL error: {e}"))?;
        match statements.len() {
            0 => return Err(Usage::new("no statement: give a query with -c or a file with -f").into()),
            1 => {}
            many if self.args.output.is_some() => {
                return Err(Usage::new(format!("-o takes the rows of one statement, not of {many}")).into());
            }
            _ => {}
        }
        for s in statements {
            self.one(&s).await?;
        }
        Ok(())
    }

    async fn one(&self, sql: &str) -> Outcome {
        let started = Instant::now();
        let table = self.session.sql(sql).await?;
        if let (Some((query, analyze)), Format::Table, None) = (table.explained(), self.format, &self.args.output) {
            return self.explain(query, analyze).await;
        }
        let plan = table.plan().await?;
        let planned = started.elapsed();
        let spinner = Spinner::over(&plan);
        let mut rows = millstream::run(&self.session, &plan)?;
        let schema = rows.schema();
        if schema.fields().is_empty() {
            while let Some(batch) = rows.next().await {
                batch?;
            }
            return Ok(());
        }
        let mut output = Output::new(self.format, self.args.output.as_deref(), &schema)?;
        while let Some(batch) = rows.next().await {
            output.write(&batch?)?;
        }
        drop(spinner);
        let count = output.rows;
        output.finish()?;
        if self.verbose {
            let (planned, all) = (planned.as_secs_f64() * 1e3, started.elapsed().as_secs_f64() * 1e3);
            eprintln!("{count} rows in {all:.1} ms, {planned:.1} ms of them planning");
            eprint!("{}", millstream::profile_of(&plan));
        }
        Ok(())
    }

    /// The plan and what runs where, each line within the terminal; after a run when it is to be analysed.
    async fn explain(&self, query: Table, analyze: bool) -> Outcome {
        let plan = query.plan().await?;
        let mut text = datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string();
        if analyze {
            let _spinner = Spinner::over(&plan);
            let mut rows = millstream::run(&self.session, &plan)?;
            let mut count = 0;
            let started = Instant::now();
            while let Some(batch) = rows.next().await {
                count += batch?.num_rows();
            }
            text += &format!("\n{count} rows in {:.1} ms\n", started.elapsed().as_secs_f64() * 1e3);
        }
        text += &format!("\n{}", millstream::profile_of(&plan));
        let width = terminal_width().filter(|_| !self.verbose).unwrap_or(usize::MAX);
        Ok(print(&text.lines().map(|l| cut(l, width) + "\n").collect::<String>())?)
    }

    /// Statements from standard input, each ended by a semicolon. On a terminal an error does not end it.
    async fn interactive(&self) -> Outcome {
        let terminal = std::io::stdin().is_terminal();
        if terminal {
            eprintln!("millstream {}: end a statement with ; and the session with Ctrl-D", env!("CARGO_PKG_VERSION"));
        }
        let mut text = String::new();
        loop {
            if terminal {
                eprint!("{}", if text.is_empty() { "millstream> " } else { "       ...> " });
                let _ = std::io::stderr().flush();
            }
            // Off the runtime's threads, so that Ctrl-C is heard while it waits.
            let (line, read) = tokio::task::spawn_blocking(|| {
                let mut line = String::new();
                std::io::stdin().read_line(&mut line).map(|n| (line, n))
            })
            .await??;
            text += &line;
            let ended = text.trim_end().ends_with(';');
            if (ended || read == 0) && !text.trim().is_empty() {
                match self.all(&std::mem::take(&mut text)).await {
                    Err(e) if terminal => eprintln!("error: {e}"),
                    outcome => outcome?,
                }
            }
            if read == 0 {
                return Ok(());
            }
        }
    }
}
