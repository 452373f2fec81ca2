//! `millstream sql`: statements over named files.

use crate::args::{Common, NamedTable, SqlArgs};
use crate::output::{Target, format_of};
use crate::query::{self, Show};
use crate::runtime::cancellable;
use crate::statements::{is_complete, split};
use crate::terminal::Foreground;
use crate::{Outcome, Usage, shell};
use millstream::{Options, Session};
use std::io::IsTerminal;
use std::sync::Arc;

pub fn run(a: &SqlArgs, common: &Common) -> Outcome {
    let text = match (&a.command, &a.file) {
        (Some(c), _) => Some(c.clone()),
        (None, Some(f)) => Some(std::fs::read_to_string(f).map_err(|e| format!("cannot read {}: {e}", f.display()))?),
        (None, None) if std::io::stdin().is_terminal() => return shell::run(a, common),
        (None, None) => None,
    };
    cancellable(common, async {
        let script = Script { session: session(a.tables.clone(), common.options()?).await?, show: show(a, common) };
        match text {
            Some(text) => script.all(&text).await,
            None => script.piped().await,
        }
    })
}

/// A session with these tables.
pub async fn session(tables: Vec<NamedTable>, options: Options) -> Outcome<Session> {
    let session = Session::with_options(options)?;
    for t in &tables {
        session.register(&t.name, &t.path).await?;
    }
    Ok(session)
}

/// What the command line says about results.
fn show(a: &SqlArgs, common: &Common) -> Show {
    Show {
        format: format_of(a.format, a.output.as_deref()),
        target: a.output.clone().map_or(Target::Screen(None), Target::File),
        timer: false,
        verbose: common.verbose,
        foreground: Arc::new(Foreground::default()),
    }
}

/// Statements that nobody waits for at a prompt: the first that fails ends them.
struct Script {
    session: Session,
    show: Show,
}

impl Script {
    async fn all(&self, text: &str) -> Outcome {
        let statements = split(text).map_err(|e| format!("SQL error: {e}"))?;
        match statements.len() {
            0 => return Err(Usage::new("no statement: give a query with -c or a file with -f").into()),
            1 => {}
            many if matches!(self.show.target, Target::File(_)) => {
                return Err(Usage::new(format!("-o takes the rows of one statement, not of {many}")).into());
            }
            _ => {}
        }
        for s in statements {
            query::run(&self.session, &s, &self.show).await?;
        }
        Ok(())
    }

    /// Each statement runs as soon as its semicolon is read.
    async fn piped(&self) -> Outcome {
        let mut text = String::new();
        loop {
            // Off the runtime's threads, so that Ctrl-C is heard while it waits.
            let (line, read) = tokio::task::spawn_blocking(|| {
                let mut line = String::new();
                std::io::stdin().read_line(&mut line).map(|n| (line, n))
            })
            .await??;
            text += &line;
            if read == 0 {
                return if split(&text).is_ok_and(|s| s.is_empty()) { Ok(()) } else { self.all(&text).await };
            }
            if line.trim_end().ends_with(';') && is_complete(&text) {
                self.all(&std::mem::take(&mut text)).await?;
            }
        }
    }
}
