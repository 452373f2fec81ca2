//! Standard output, through a pager where there is more than fits the terminal.

use crate::terminal::{self, Foreground};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// How `less` shows tables: lines are chopped, colours pass, less than a screenful ends it, nothing is cleared.
const LESS: &str = "-SRFX";

/// A program that shows text page by page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pager {
    program: String,
    arguments: Vec<String>,
}

impl Pager {
    /// The pager that `PAGER` names, `less` where it is not set; none where it is empty.
    pub fn of(variable: Option<&str>) -> Option<Self> {
        let mut words = variable.unwrap_or("less").split_whitespace().map(str::to_string);
        Some(Self { program: words.next()?, arguments: words.collect() })
    }

    /// Whether there is such a program.
    pub fn is_there(&self) -> bool {
        let program = Path::new(&self.program);
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let name = format!("{}{}", self.program, std::env::consts::EXE_SUFFIX);
        program.is_file() || (program.components().count() == 1 && std::env::split_paths(&folders).any(|f| f.join(&name).is_file()))
    }

    fn start(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::piped());
        if std::env::var_os("LESS").is_none() {
            command.env("LESS", LESS);
        }
        command.spawn()
    }
}

/// Where text for the user goes.
pub struct Screen {
    foreground: Arc<Foreground>,
    /// What may still fit the terminal; none once it is being written.
    held: Option<Held>,
    paged: Option<Paged>,
}

struct Held {
    bytes: Vec<u8>,
    pager: Pager,
    size: (usize, usize),
    /// Lines so far, and the column of the next character.
    at: (usize, usize),
}

impl Held {
    /// Adds text; says whether it is too tall for the terminal.
    fn add(&mut self, bytes: &[u8]) -> bool {
        self.bytes.extend_from_slice(bytes);
        let (width, height) = self.size;
        for byte in bytes {
            self.at = match byte {
                b'\n' => (self.at.0 + 1, 0),
                _ if self.at.1 == width => (self.at.0 + 1, 1),
                _ => (self.at.0, self.at.1 + 1),
            };
        }
        self.at.0 >= height
    }
}

/// A pager that runs.
struct Paged {
    /// None once it has got everything.
    pipe: Option<ChildStdin>,
    /// Set when the query has nothing more for it.
    done: Arc<AtomicBool>,
    ended: Option<JoinHandle<()>>,
}

impl Paged {
    fn new(mut child: Child, foreground: &Arc<Foreground>) -> Self {
        foreground.set_paging(true);
        let (pipe, done, foreground) = (child.stdin.take(), Arc::new(AtomicBool::new(false)), Arc::clone(foreground));
        let expected = Arc::clone(&done);
        // A query that has no row for long does not notice that its pager is gone: somebody has to tell.
        let ended = std::thread::spawn(move || {
            let _ = child.wait();
            foreground.set_paging(false);
            if !expected.load(Ordering::Relaxed) {
                foreground.close();
            }
        });
        Self { pipe, done, ended: Some(ended) }
    }
}

impl Drop for Paged {
    /// The terminal is the pager's until it has ended, also after an error.
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        drop(self.pipe.take());
        if let Some(ended) = self.ended.take() {
            let _ = ended.join();
        }
    }
}

impl Screen {
    /// Text is held until it is clear whether it needs the pager, which only a terminal has.
    pub fn new(foreground: &Arc<Foreground>, pager: Option<&Pager>) -> Self {
        let size = terminal::width().zip(terminal::height()).filter(|_| io::stdout().is_terminal());
        let held = pager.zip(size).map(|(pager, size)| Held { bytes: vec![], pager: pager.clone(), size, at: (0, 0) });
        Self { foreground: Arc::clone(foreground), held, paged: None }
    }

    /// Shows what is held and waits for the user to leave the pager.
    pub fn finish(mut self) -> io::Result<()> {
        if let Some(held) = self.held.take() {
            self.through(&held.bytes)?;
        }
        self.flush()
    }

    /// Writes bytes now.
    fn through(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.foreground.clear();
        match self.paged.as_mut().and_then(|p| p.pipe.as_mut()) {
            Some(pipe) => pipe.write_all(bytes).inspect_err(|e| {
                if e.kind() == io::ErrorKind::BrokenPipe {
                    self.foreground.close();
                }
            }),
            None => io::stdout().write_all(bytes).map_err(end_if_closed),
        }
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(held) = &mut self.held else { return self.through(bytes).map(|()| bytes.len()) };
        if held.add(bytes)
            && let Some(held) = self.held.take()
        {
            self.foreground.clear();
            match held.pager.start() {
                Ok(child) => self.paged = Some(Paged::new(child, &self.foreground)),
                Err(e) => eprintln!("no pager {}: {e}", held.pager.program),
            }
            self.through(&held.bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let direct = self.held.is_none() && self.paged.is_none();
        if direct { io::stdout().flush().map_err(end_if_closed) } else { Ok(()) }
    }
}

/// Who reads standard output may stop reading, as `head` does: then there is nothing left to do, and
/// nothing to complain about.
fn end_if_closed(e: io::Error) -> io::Error {
    if e.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    e
}

/// Prints text to standard output.
pub fn print(text: &str) -> io::Result<()> {
    io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()).map_err(end_if_closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pager_has_arguments_or_is_none() {
        let less = Pager { program: "less".into(), arguments: vec![] };
        assert_eq!(Pager::of(None), Some(less));
        assert_eq!(Pager::of(Some("more -d")).unwrap().arguments, ["-d"]);
        assert_eq!((Pager::of(Some("")), Pager::of(Some(" "))), (None, None));
    }

    #[test]
    fn lines_that_wrap_count_more_than_once() {
        let held = || Held { bytes: vec![], pager: Pager::of(None).unwrap(), size: (10, 3), at: (0, 0) };
        assert!(!held().add(b"one\ntwo\nthree"));
        assert!(held().add(b"one\ntwo\nthree\n"));
        assert!(!held().add(&[b'a'; 30]) && held().add(&[b'a'; 31]));
        let mut parts = held();
        assert!(!parts.add(b"0123456789\n") && !parts.add(b"0\n") && parts.add(b"\n"));
    }
}
