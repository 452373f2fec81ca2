//! The line that is being typed: editing, history, completion.

use super::command::word;
use super::complete::complete;
use super::highlight::{GREY, RESET, highlighted};
use super::names::Names;
use crate::Outcome;
use crate::statements::parts;
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::{Hint, Hinter};
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Behavior, ColorMode, CompletionType, Config, Context, Editor, Helper};
use std::borrow::Cow;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

const PROMPT: &str = "millstream> ";

/// Statements that are kept.
const HISTORY_LENGTH: usize = 10_000;

/// Reads statements and commands from the terminal.
pub struct Line {
    editor: Editor<Assistant, FileHistory>,
    /// None: history ends with the session.
    history: Option<PathBuf>,
}

/// What came of a line.
pub enum Read {
    Text(String),
    /// Ctrl-C.
    Cleared,
    /// Ctrl-D.
    End,
}

impl Line {
    pub fn new() -> Outcome<Self> {
        let colours = if std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) { ColorMode::Disabled } else { ColorMode::Enabled };
        // Prompts do not belong into a file of results.
        let behavior = if std::io::stdout().is_terminal() { Behavior::Stdio } else { Behavior::PreferTerm };
        let config = Config::builder()
            .max_history_size(HISTORY_LENGTH)?
            .completion_type(CompletionType::List)
            .completion_show_all_if_ambiguous(true)
            .color_mode(colours)
            .behavior(behavior)
            .build();
        let mut editor = Editor::with_config(config)?;
        editor.set_helper(Some(Assistant::default()));
        let mut line = Self { editor, history: history_file(|name| std::env::var_os(name), std::env::home_dir()) };
        line.load();
        Ok(line)
    }

    /// From now on completion knows these names.
    pub fn know(&mut self, names: Names) {
        if let Some(assistant) = self.editor.helper_mut() {
            assistant.names = names;
        }
    }

    pub fn read(&mut self) -> Outcome<Read> {
        match self.editor.readline(PROMPT) {
            Ok(text) => {
                self.remember(&text);
                Ok(Read::Text(text))
            }
            Err(ReadlineError::Eof) => Ok(Read::End),
            Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => Ok(Read::Cleared),
            Err(e) => Err(format!("cannot read from the terminal: {e}").into()),
        }
    }

    fn load(&mut self) {
        let Some(file) = &self.history else { return };
        let outcome = match file.parent().map(std::fs::create_dir_all) {
            Some(Err(e)) => Err(e.into()),
            _ if !file.exists() => Ok(()),
            _ => self.editor.load_history(file),
        };
        self.kept(outcome);
    }

    /// Each statement is written at once: a crash, or a second shell, loses none.
    fn remember(&mut self, text: &str) {
        let text = text.trim_end();
        if text.is_empty() || !self.editor.add_history_entry(text).unwrap_or(false) {
            return;
        }
        if let Some(file) = &self.history {
            let outcome = self.editor.append_history(file);
            self.kept(outcome);
        }
    }

    /// History is a convenience: what is wrong with it is said once.
    fn kept(&mut self, outcome: rustyline::Result<()>) {
        if let (Err(e), Some(file)) = (outcome, &self.history) {
            eprintln!("history is not kept: {}: {e}; MILLSTREAM_HISTORY names another file", file.display());
            self.history = None;
        }
    }
}

/// The file of the history: as the environment says, by the rules of freedesktop.org; none where it says so.
fn history_file(variable: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    if let Some(file) = variable("MILLSTREAM_HISTORY") {
        return (!file.is_empty()).then(|| file.into());
    }
    let folder = |name| variable(name).filter(|f| !f.is_empty()).map(PathBuf::from);
    let state = folder("XDG_STATE_HOME").or_else(|| folder("XDG_DATA_HOME")).or_else(|| Some(home?.join(".local/state")))?;
    Some(state.join("millstream").join("history"))
}

/// What the editor asks while a line is typed.
#[derive(Default)]
struct Assistant {
    names: Names,
}

impl Helper for Assistant {}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, text: &str, cursor: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        Ok(complete(text, cursor, &self.names))
    }
}

impl Validator for Assistant {
    /// Enter ends what is complete, and begins another line of what is not.
    fn validate(&self, line: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let complete = word(line.input()).is_some() || parts(line.input()).1;
        Ok(if complete { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

/// Stands in an empty line of a statement that goes on.
struct Continues;

impl Hint for Continues {
    fn display(&self) -> &str {
        "       ...> (a semicolon ends the statement)"
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Hinter for Assistant {
    type Hint = Continues;

    fn hint(&self, text: &str, cursor: usize, _: &Context<'_>) -> Option<Continues> {
        (cursor == text.len() && text.ends_with('\n') && !parts(text).1).then_some(Continues)
    }
}

impl Highlighter for Assistant {
    fn highlight<'l>(&self, text: &'l str, _: usize) -> Cow<'l, str> {
        Cow::Owned(highlighted(text))
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("{GREY}{hint}{RESET}"))
    }

    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        kind == CmdKind::Other
    }
}

#[test]
fn history_lies_where_the_environment_says() {
    let file = |variables: &[(&str, &str)], home: Option<&str>| {
        let variable = |name: &str| variables.iter().find(|v| v.0 == name).map(|v| v.1.into());
        history_file(variable, home.map(PathBuf::from)).map(|f| f.to_string_lossy().into_owned())
    };
    let some = |path: &str| Some(path.to_string());
    assert_eq!(file(&[], Some("/h")), some("/h/.local/state/millstream/history"));
    assert_eq!(file(&[("XDG_DATA_HOME", "/d")], Some("/h")), some("/d/millstream/history"));
    assert_eq!(file(&[("XDG_DATA_HOME", "/d"), ("XDG_STATE_HOME", "/s")], Some("/h")), some("/s/millstream/history"));
    assert_eq!(file(&[("XDG_STATE_HOME", "")], Some("/h")), some("/h/.local/state/millstream/history"));
    assert_eq!(file(&[("MILLSTREAM_HISTORY", "/x"), ("XDG_STATE_HOME", "/s")], None), some("/x"));
    assert_eq!(file(&[("MILLSTREAM_HISTORY", "")], Some("/h")), None);
    assert_eq!(file(&[], None), None);
}
