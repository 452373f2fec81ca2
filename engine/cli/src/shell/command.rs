//! Commands of the shell: lines that begin with a dot.

use crate::args::Format;
use clap::ValueEnum;
use datafusion::common::utils::datafusion_strsim::levenshtein;
use std::path::PathBuf;

/// What a line asks of the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Help,
    /// Tables that match a pattern.
    Tables(Option<String>),
    /// Columns of a table, of all tables without one.
    Schema(Option<String>),
    /// None asks which one it is.
    Mode(Option<Format>),
    Timer(bool),
    Pager(bool),
    /// None: back to the screen.
    Output(Option<PathBuf>),
    Read(PathBuf),
    Quit,
}

/// What the word after a command is, for completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    None,
    Table,
    Format,
    Switch,
    Path,
}

/// Name, argument as `.help` shows it, what it is, what the command does.
pub const COMMANDS: &[(&str, &str, Argument, &str)] = &[
    (".help", "", Argument::None, "this list"),
    (".tables", "[PATTERN]", Argument::Table, "tables and views; * and ? in a pattern, or a part of the name"),
    (".schema", "[TABLE]", Argument::Table, "columns and types of a table, or of all"),
    (".mode", "[FORMAT]", Argument::Format, "how rows are shown: table, line, csv, json"),
    (".timer", "on|off", Argument::Switch, "rows and time after each statement"),
    (".pager", "on|off", Argument::Switch, "results taller than the terminal go through PAGER"),
    (".output", "[FILE]", Argument::Path, "rows go to a file, its ending says how; without one back to the screen"),
    (".read", "FILE", Argument::Path, "run the statements of a file"),
    (".quit", "", Argument::None, "leave, as Ctrl-D does"),
];

/// Other names of the same.
const ALIASES: &[(&str, &str)] = &[(".describe", ".schema"), (".exit", ".quit"), (".q", ".quit")];

/// What other shells understand; as a whole line it means a command.
const WORDS: &[(&str, &str)] =
    &[("exit", ".quit"), ("quit", ".quit"), ("\\q", ".quit"), ("help", ".help"), ("\\?", ".help"), ("?", ".help")];

/// The formats that a terminal shows.
pub const FORMATS: &[Format] = &[Format::Table, Format::Line, Format::Csv, Format::Json];

/// The command that `exit` and its like stand for.
pub fn word(line: &str) -> Option<&'static str> {
    WORDS.iter().find(|(word, _)| *word == line.trim()).map(|(_, command)| *command)
}

impl Command {
    /// The command of a line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &str) -> Result<Self, String> {
        let line = line.trim().trim_end_matches(';').trim_end();
        let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
        let argument = Some(argument.trim()).filter(|a| !a.is_empty());
        let known = COMMANDS.iter().find(|c| c.0 == name).ok_or_else(|| unknown(name))?;
        let usage = || format!("usage: {} {}", known.0, known.1);
        Ok(match (name, argument) {
            (".help", None) => Self::Help,
            (".tables", pattern) => Self::Tables(pattern.map(unquoted)),
            (".schema", table) => Self::Schema(table.map(str::to_string)),
            (".mode", None) => Self::Mode(None),
            (".mode", Some(format)) => Self::Mode(Some(shown(format)?)),
            (".timer", Some(switch)) => Self::Timer(on(switch).ok_or_else(usage)?),
            (".pager", Some(switch)) => Self::Pager(on(switch).ok_or_else(usage)?),
            (".output", file) => Self::Output(file.map(|f| unquoted(f).into())),
            (".read", Some(file)) => Self::Read(unquoted(file).into()),
            (".quit", None) => Self::Quit,
            _ => return Err(usage()),
        })
    }
}

fn unknown(name: &str) -> String {
    let names = COMMANDS.iter().map(|c| c.0).chain(ALIASES.iter().map(|a| a.0));
    let nearest = names.min_by_key(|known| levenshtein(known, name)).filter(|known| levenshtein(known, name) <= 3);
    let hint = nearest.map_or(String::new(), |n| format!("did you mean {n}? "));
    format!("there is no command {name}: {hint}.help lists them")
}

fn on(switch: &str) -> Option<bool> {
    match switch {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

fn shown(name: &str) -> Result<Format, String> {
    match Format::from_str(name, true) {
        Ok(Format::Parquet) => Err("Parquet is no format for a screen: copy (select ...) to 'file.parquet' writes it".into()),
        Ok(format) => Ok(format),
        Err(_) => Err(format!("there is no format {name}: there are {}", names(FORMATS).join(", "))),
    }
}

/// Names of formats.
pub fn names(formats: &[Format]) -> Vec<String> {
    formats.iter().filter_map(Format::to_possible_value).map(|v| v.get_name().to_string()).collect()
}

/// A name may stand in quotes, where it ends in a space for instance.
fn unquoted(text: &str) -> String {
    let inner = ['\'', '"'].iter().find_map(|q| text.strip_prefix(*q)?.strip_suffix(*q));
    inner.unwrap_or(text).to_string()
}

/// The list of commands.
pub fn help() -> String {
    let line = |c: &(&str, &str, Argument, &str)| format!("{:<22} {}\n", format!("{} {}", c.0, c.1), c.3);
    let commands: String = COMMANDS.iter().map(line).collect();
    format!(
        "{commands}\nA statement ends with a semicolon and may have many lines. Tab completes, Ctrl-R searches what was typed\nbefore, Ctrl-C cancels a query or clears the line, Ctrl-D leaves.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_with_and_without_arguments() {
        for (line, command) in [
            (".help", Command::Help),
            (".tables", Command::Tables(None)),
            (".tables n*", Command::Tables(Some("n*".into()))),
            (".schema \"T\";", Command::Schema(Some("\"T\"".into()))),
            (".describe t", Command::Schema(Some("t".into()))),
            (".mode", Command::Mode(None)),
            (".mode CSV", Command::Mode(Some(Format::Csv))),
            (".timer off", Command::Timer(false)),
            (" .pager  on ", Command::Pager(true)),
            (".output", Command::Output(None)),
            (".output 'two words.csv'", Command::Output(Some("two words.csv".into()))),
            (".read a b.sql", Command::Read("a b.sql".into())),
            (".exit", Command::Quit),
            (".quit;", Command::Quit),
        ] {
            assert_eq!(Command::parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn errors_say_what_there_is() {
        for (line, says) in [
            (".tabels", "there is no command .tabels: did you mean .tables? .help lists them"),
            (".frobnicate", "there is no command .frobnicate: .help lists them"),
            (".", ".help lists them"),
            (".mode xml", "there is no format xml: there are table, line, csv, json"),
            (".mode parquet", "copy (select ...)"),
            (".timer", "usage: .timer on|off"),
            (".timer maybe", "usage: .timer on|off"),
            (".read", "usage: .read FILE"),
            (".quit now", "usage: .quit"),
        ] {
            let said = Command::parse(line).unwrap_err();
            assert!(said.contains(says), "{line}: {said}");
        }
    }

    #[test]
    fn every_command_is_in_the_help_and_the_words_of_other_shells_are_commands() {
        assert!(COMMANDS.iter().all(|c| help().contains(c.0)));
        assert!(WORDS.iter().all(|(w, c)| word(w) == Some(c) && Command::parse(c).is_ok()));
        assert_eq!((word(" exit "), word("exit;"), word("select")), (Some(".quit"), None, None));
    }
}
