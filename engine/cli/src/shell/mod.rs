//! `millstream sql` on a terminal: statements and commands, one after the other, until Ctrl-D.
//!
//! The main thread has the terminal: it reads a line, then waits for the query that came of it. Queries run on
//! threads of their own, so that Ctrl-C is heard and nothing that a query does ends the shell.

mod command;
mod complete;
mod highlight;
mod line;
mod names;
mod words;

use crate::args::{Common, Format, SqlArgs};
use crate::output::{Target, format_of};
use crate::query::{self, Show};
use crate::runtime::Console;
use crate::screen::{Pager, print};
use crate::statements::{Part, parts};
use crate::terminal::Foreground;
use crate::{Outcome, Usage, sql};
use command::Command;
use line::{Line, Read};
use millstream::Session;
use names::Names;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How deep files of statements may read one another.
const READ_DEPTH: usize = 8;

pub fn run(a: &SqlArgs, common: &Common) -> Outcome {
    let console = Console::new(common)?;
    let outcome = Shell::new(a, common, &console).and_then(|mut shell| shell.converse());
    console.close();
    outcome
}

struct Shell<'a> {
    console: &'a Console,
    session: Session,
    line: Line,
    foreground: Arc<Foreground>,
    /// As the user chose; none: as the ending of the output file says, else a table.
    mode: Option<Format>,
    output: Option<(PathBuf, Arc<File>)>,
    pager: Option<Pager>,
    timer: bool,
    verbose: bool,
    ended: bool,
}

impl<'a> Shell<'a> {
    fn new(a: &SqlArgs, common: &Common, console: &'a Console) -> Outcome<Self> {
        let foreground = Arc::new(Foreground::default());
        let session = console.run(&foreground, sql::session(a.tables.clone(), common.options()?))?.ok_or("there is no session")?;
        let mut shell = Self {
            console,
            session,
            line: Line::new()?,
            foreground,
            mode: None,
            output: None,
            pager: pager(),
            timer: true,
            verbose: common.verbose,
            ended: false,
        };
        shell.set_mode(a.format).map_err(Usage::new)?;
        shell.set_output(a.output.as_deref()).map_err(Usage::new)?;
        Ok(shell)
    }

    fn converse(&mut self) -> Outcome {
        eprintln!("millstream {}: .help lists commands, Tab completes, Ctrl-D leaves", env!("CARGO_PKG_VERSION"));
        while !self.ended {
            self.line.know(self.console.wait(Names::of(&self.session)));
            match self.line.read()? {
                Read::End => return Ok(()),
                Read::Cleared => {}
                Read::Text(text) => {
                    let outcome = match command::word(&text) {
                        Some(line) => self.obey(line, 0),
                        None => self.take(&text, 0),
                    };
                    if let Err(e) = outcome {
                        eprintln!("error: {e}");
                    }
                }
            }
        }
        Ok(())
    }

    /// Runs what was typed, or what a file says, to the first failure.
    fn take(&mut self, text: &str, depth: usize) -> Outcome {
        for part in parts(text).0 {
            match part {
                Part::Command(line) => self.obey(&line, depth)?,
                Part::Statement(sql) => self.query(sql, true)?,
            }
            if self.ended {
                break;
            }
        }
        Ok(())
    }

    fn query(&self, sql: String, timed: bool) -> Outcome {
        let show = self.show(timed);
        let session = self.session.clone();
        self.console.run(&self.foreground, async move { query::run(&session, &sql, &show).await })?;
        Ok(())
    }

    fn show(&self, timed: bool) -> Show {
        Show {
            format: self.format(),
            target: self.output.as_ref().map_or(Target::Screen(self.pager.clone()), |(_, file)| Target::Open(Arc::clone(file))),
            timer: self.timer && timed,
            verbose: self.verbose && timed,
            foreground: Arc::clone(&self.foreground),
        }
    }

    fn format(&self) -> Format {
        format_of(self.mode, self.output.as_ref().map(|(path, _)| path.as_path()))
    }

    fn obey(&mut self, line: &str, depth: usize) -> Outcome {
        match Command::parse(line)? {
            Command::Help => print(&command::help())?,
            Command::Tables(pattern) => self.query(tables(pattern.as_deref()), false)?,
            Command::Schema(Some(table)) => self.query(format!("describe {table}"), false)?,
            Command::Schema(None) => self.query(COLUMNS.into(), false)?,
            Command::Mode(None) => print(&format!("{}\n", command::names(&[self.format()]).concat()))?,
            Command::Mode(mode) => self.set_mode(mode)?,
            Command::Timer(on) => self.timer = on,
            Command::Pager(on) => {
                self.pager = pager().filter(|_| on);
                if on && self.pager.is_none() {
                    return Err("there is no pager: PAGER names one".into());
                }
            }
            Command::Output(file) => self.set_output(file.as_deref())?,
            Command::Read(_) if depth == READ_DEPTH => return Err(format!("files read one another more than {READ_DEPTH} deep").into()),
            Command::Read(file) => {
                let text = std::fs::read_to_string(&file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
                self.take(&text, depth + 1)?;
            }
            Command::Quit => self.ended = true,
        }
        Ok(())
    }

    fn set_mode(&mut self, mode: Option<Format>) -> Result<(), String> {
        if mode == Some(Format::Parquet) {
            return Err(NO_PARQUET.into());
        }
        self.mode = mode;
        Ok(())
    }

    /// Opens a file that all later results are appended to.
    fn set_output(&mut self, file: Option<&Path>) -> Result<(), String> {
        self.output = None;
        if let Some(path) = file {
            if format_of(self.mode, file) == Format::Parquet {
                return Err(NO_PARQUET.into());
            }
            let file = File::create(path).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
            self.output = Some((path.to_path_buf(), Arc::new(file)));
        }
        Ok(())
    }
}

const NO_PARQUET: &str = "a Parquet file holds one result: copy (select ...) to 'file.parquet' writes it";

fn pager() -> Option<Pager> {
    Pager::of(std::env::var("PAGER").ok().as_deref()).filter(Pager::is_there)
}

const COLUMNS: &str = "select table_name, column_name, data_type, is_nullable from information_schema.columns \
    where table_schema <> 'information_schema' order by table_schema, table_name, ordinal_position";

/// The statement that lists tables.
fn tables(pattern: Option<&str>) -> String {
    let matching = pattern.map_or(String::new(), |p| format!("and regexp_like(table_name, '{}', 'i') ", regex(p).replace('\'', "''")));
    format!(
        "select case table_schema when 'public' then '' else table_schema || '.' end || table_name as \"table\", \
         lower(table_type) as type from information_schema.tables \
         where table_schema <> 'information_schema' {matching}order by table_schema, table_name"
    )
}

/// `*` and `?` stand for any characters and for one; without them a part of the name is enough.
fn regex(pattern: &str) -> String {
    let part = |c: char| match c {
        '*' | '%' => ".*".to_string(),
        '?' => ".".to_string(),
        c if c.is_alphanumeric() || c == '_' => c.to_string(),
        c => format!("\\{c}"),
    };
    let regex: String = pattern.chars().map(part).collect();
    if pattern.contains(['*', '%', '?']) { format!("^{regex}$") } else { regex }
}

#[test]
fn patterns_of_tables() {
    assert_eq!(regex("n*"), "^n.*$");
    assert_eq!(regex("nat"), "nat");
    assert_eq!(regex("a.b?"), "^a\\.b.$");
    assert!(tables(Some("it's")).contains("'it\\''s'"));
}
