//! The shell as its users meet it: on a terminal, a real pseudo-terminal with a session of its own.

#![cfg(unix)]
#![expect(clippy::disallowed_methods, reason = "how soon a query ends is what is tested")]

use nix::libc;
use nix::pty::{Winsize, openpty};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

const PROMPT: &str = "millstream> ";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const UP: &str = "\x1b[A";
const TAB: &str = "\t";
const LINES: u16 = 30;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A query that takes minutes.
const ENDLESS: &str = "select count(*) from generate_series(1, 100000000) a cross join generate_series(1, 100000) b;";

fn folder(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shell-{}", std::process::id())).join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn script(path: &Path, text: &str) -> String {
    std::fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_string()
}

/// What the screen has got so far, and a sign that there is more.
type Seen = Arc<(Mutex<Vec<u8>>, Condvar)>;

/// A terminal with a shell on it.
struct Terminal {
    child: Child,
    keys: File,
    seen: Seen,
    /// How much of the text was looked at.
    at: usize,
}

impl Terminal {
    /// A shell in `home`, where its history lies too.
    fn start(home: &Path, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        command.arg("sql").args(args).args(["--threads", "2"]);
        Self::of(command, home, variables)
    }

    /// Starts a command and waits for the prompt.
    fn of(mut command: Command, home: &Path, variables: &[(&str, &str)]) -> Self {
        let size = Winsize { ws_row: LINES, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        command.current_dir(home);
        for name in ["COLUMNS", "LINES", "PAGER", "LESS", "MILLSTREAM_HISTORY", "XDG_DATA_HOME"] {
            command.env_remove(name);
        }
        command
            .env("MILLSTREAM_PROFILES", "")
            .env("TERM", "xterm")
            .env("NO_COLOR", "1")
            .env("XDG_STATE_HOME", home)
            .envs(variables.iter().copied());
        command.stdin(pty.slave.try_clone().unwrap()).stdout(pty.slave.try_clone().unwrap()).stderr(pty.slave);
        // SAFETY: both calls may follow a fork; they make the terminal, which is standard input, the child's own.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                nix::errno::Errno::result(libc::ioctl(0, libc::TIOCSCTTY as _, 0))?;
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        let keys = File::from(pty.master);
        let seen = Seen::default();
        let (mut screen, shared) = (keys.try_clone().unwrap(), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The read fails once the shell and its children are gone.
            while let Ok(n) = screen.read(&mut bytes) {
                shared.0.lock().unwrap().extend_from_slice(&bytes[..n]);
                shared.1.notify_all();
                if n == 0 {
                    break;
                }
            }
        });
        let mut terminal = Self { child, keys, seen, at: 0 };
        terminal.settle();
        terminal
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Presses keys until this is on the screen: an interrupt throws away what was typed around it.
    fn press_until(&mut self, keys: &str, wanted: &str) {
        for _ in 0..5 {
            self.press(keys);
            std::thread::sleep(Duration::from_secs(1));
            if plain(&self.seen.0.lock().unwrap())[self.at..].contains(wanted) {
                break;
            }
        }
        self.expect(wanted);
    }

    /// Types a line, waits for the next prompt, and says what came before it.
    fn enter(&mut self, line: &str) -> String {
        self.press(line);
        self.press("\r");
        self.settle()
    }

    /// Waits until there is something new and the prompt is the last of it. It is drawn again while a line is
    /// typed: only where nothing follows is it the next one.
    fn settle(&mut self) -> String {
        let started = Instant::now();
        let mut length = 0;
        loop {
            std::thread::sleep(Duration::from_millis(150));
            let text = plain(&self.seen.0.lock().unwrap());
            if text.len() == length && text.len() > self.at && text.ends_with(PROMPT) {
                let new = text[self.at..].to_string();
                self.at = text.len();
                return new;
            }
            length = text.len();
            assert!(started.elapsed() < PATIENCE, "no prompt after\n{text}");
        }
    }

    /// Waits until this is on the screen, and says what came before it.
    fn expect(&mut self, wanted: &str) -> String {
        let started = Instant::now();
        let mut bytes = self.seen.0.lock().unwrap();
        loop {
            let text = plain(&bytes);
            if let Some(found) = text[self.at..].find(wanted) {
                let before = text[self.at..self.at + found].to_string();
                self.at += found + wanted.len();
                return before;
            }
            assert!(started.elapsed() < PATIENCE, "{wanted:?} does not come after\n{text}");
            bytes = self.seen.1.wait_timeout(bytes, Duration::from_millis(100)).unwrap().0;
        }
    }

    /// The exit code, once the shell has ended.
    fn ends(mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(started.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Text without what moves the cursor.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.split("\x1b[");
    let mut out = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |at| at + 1);
        out += &part[end..];
    }
    out.replace(['\r', '\x07'], "")
}

#[test]
fn statements_have_lines_rows_times_and_errors() {
    let mut shell = Terminal::start(&folder("lines"), &[], &[]);
    let rows = shell.enter("select 1 as one;");
    assert!(rows.contains("| one |") && rows.contains("1 row in ") && rows.contains(" ms"), "{rows}");
    shell.press("select 2 as two,\r");
    shell.expect("a semicolon ends the statement");
    shell.press("'a;\rb' as three\r");
    let rows = shell.enter("; select 4 as four;");
    assert!(rows.contains("| two | three |") && rows.contains("| a;\\nb |") && rows.contains("| four |"), "{rows}");
    let error = shell.enter("select nope;");
    assert!(error.contains("error: ") && error.contains("nope"), "{error}");
    let error = shell.enter("select 1; selekt 2; select 3 as never;");
    assert!(error.contains("error: ") && error.contains("Column: 11") && !error.contains("never |"), "{error}");
    assert!(shell.enter("create table t as select 5 as five;").contains("done in "));
    assert!(shell.enter("select * from t;").contains("| five |"));
    shell.press(CTRL_D);
    assert_eq!(shell.ends(), Some(0));
}

#[test]
fn what_was_typed_comes_back_in_the_next_session() {
    let home = folder("history");
    let mut shell = Terminal::start(&home, &[], &[]);
    shell.press("select 40 + 2\r");
    shell.expect("a semicolon ends the statement");
    assert!(shell.enter("as answer;").contains("| answer |"));
    shell.press("quit\r");
    assert_eq!(shell.ends(), Some(0));
    let file = home.join("millstream/history");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "nobody else reads it");

    let mut shell = Terminal::start(&home, &[], &[]);
    shell.press(UP);
    shell.expect("quit");
    shell.press(UP);
    shell.expect("as answer;");
    let rows = shell.enter("");
    assert!(rows.contains("| answer |") && rows.contains("42"), "{rows}");
    shell.press(CTRL_D);
    assert_eq!(shell.ends(), Some(0));

    let mut shell = Terminal::start(&home, &[], &[("MILLSTREAM_HISTORY", "")]);
    shell.press(UP);
    assert!(!shell.enter("select 1;").contains("answer"));
}

#[test]
fn tab_completes_tables_columns_and_paths() {
    let home = folder("completion");
    std::fs::write(home.join("voyages.csv"), "port,days\nKiel,3\n").unwrap();
    let mut shell = Terminal::start(&home, &["--table", "voyages=voyages.csv"], &[]);
    shell.enter("create table harbours as select 1 as depth, 2 as ships;");
    let rows = shell.enter(&format!("select * from harb{TAB};"));
    assert!(rows.contains("| depth | ships |"), "{rows}");
    let rows = shell.enter(&format!("sel{TAB} h.sh{TAB} fr{TAB} harbours h wher{TAB} h.de{TAB} = 1;"));
    assert!(rows.contains("\n| ships |"), "{rows}");
    let rows = shell.enter(&format!("select por{TAB} from 'voy{TAB};"));
    assert!(rows.contains("| port |") && rows.contains("Kiel"), "{rows}");
    shell.press(&format!("select * from {TAB}"));
    shell.expect("harbours");
    shell.expect("voyages");
    shell.press(CTRL_C);
    shell.settle();
    assert!(shell.enter(&format!(".sch{TAB} harb{TAB}")).contains("| depth "));
}

#[test]
fn commands_set_what_is_shown_and_where() {
    let home = folder("commands");
    std::fs::write(home.join("some.sql"), "create view v as select 'from a file' as s;\n.mode json\nselect * from v").unwrap();
    let mut shell = Terminal::start(&home, &[], &[]);
    assert!(shell.enter(".help").contains(".tables [PATTERN]"));
    shell.enter("create table harbours as select 1 as depth;");
    shell.enter("create table ships as select 1 as tons, 'x' as name;");
    let tables = shell.enter(".tables");
    assert!(tables.contains("harbours") && tables.contains("ships") && tables.contains("base table"), "{tables}");
    let tables = shell.enter(".tables har*");
    assert!(tables.contains("harbours") && !tables.contains("| ships"), "{tables}");
    let columns = shell.enter(".schema ships");
    assert!(columns.contains("tons") && columns.contains("Int64") && !columns.contains("row in"), "{columns}");
    assert!(shell.enter(".schema").contains("depth"));
    let error = shell.enter(".tabels");
    assert!(error.contains("did you mean .tables?") && error.contains(".help"), "{error}");
    assert!(shell.enter(".output rows.parquet").contains("copy (select"));
    shell.enter(".timer off");
    let rows = shell.enter("select depth from harbours;");
    assert!(rows.contains("| depth |") && !rows.contains(" in "), "{rows}");
    shell.enter(".mode csv");
    assert!(shell.enter("select 1 as a, 2 as b;").contains("\na,b\n1,2\n"));
    assert!(shell.enter(".mode").contains("\ncsv\n"));

    shell.enter(".mode line");
    assert!(shell.enter("select 1 as a, 'x' as name;").contains("\n   a = 1\nname = x\n"));

    let read = shell.enter(".read some.sql");
    assert!(read.contains("{\"s\":\"from a file\"}"), "{read}");
    assert!(shell.enter(".read missing.sql").contains("error: cannot read missing.sql"));
    shell.enter(".mode csv");
    shell.enter(".output rows.txt");
    assert!(!shell.enter("select 3 as a; select 4 as b;").contains("b\n4"));
    shell.enter(".output");
    assert_eq!(std::fs::read_to_string(home.join("rows.txt")).unwrap(), "a\n3\nb\n4\n");
    assert!(shell.enter("select 5 as c;").contains("\nc\n5\n"));
    shell.press("exit\r");
    assert_eq!(shell.ends(), Some(0));
}

#[test]
fn ctrl_c_ends_a_query_and_clears_a_line_but_not_the_shell() {
    let mut shell = Terminal::start(&folder("cancel"), &[], &[]);
    for _ in 0..2 {
        shell.press(ENDLESS);
        shell.press("\r");
        // The spinner says that it runs.
        shell.expect("(Ctrl-C cancels)");
        let pressed = Instant::now();
        shell.press(CTRL_C);
        shell.expect("error: cancelled by Ctrl-C");
        assert!(pressed.elapsed() < Duration::from_secs(2), "{:?}", pressed.elapsed());
        shell.settle();
        assert!(shell.enter("select 6 as six;").contains("| six |"));
    }
    shell.press("select nonsense");
    shell.expect("nonsense");
    shell.press(CTRL_C);
    shell.settle();
    let rows = shell.enter("select 7 as seven;");
    assert!(rows.contains("| seven |") && !rows.contains("error"), "{rows}");
    shell.press(CTRL_D);
    assert_eq!(shell.ends(), Some(0));
}

#[test]
fn what_is_taller_than_the_terminal_goes_through_the_pager() {
    let home = folder("pager");
    let pager = script(&home.join("pager"), "cat > paged; echo paged $1");
    let mut shell = Terminal::start(&home, &[], &[("PAGER", &format!("{pager} twice"))]);
    assert!(!shell.enter("select * from generate_series(1, 10);").contains("paged"));
    let said = shell.enter("select value as n, repeat('x', 200) as x from generate_series(1, 5000) order by n;");
    assert!(said.contains("paged twice") && said.contains("5000 rows in ") && !said.contains("xxx"), "{said}");
    let paged = std::fs::read_to_string(home.join("paged")).unwrap();
    assert_eq!(paged.lines().count(), 5004, "names, rules and every row");
    assert!(paged.contains("| 5000 |") && paged.contains(&"x".repeat(200)), "nothing is cut");
    shell.enter(".mode csv");
    assert!(shell.enter("select * from generate_series(1, 40);").contains("paged"));
    assert_eq!(std::fs::read_to_string(home.join("paged")).unwrap().lines().count(), 41);
    shell.enter(".pager off");
    let said = shell.enter("select * from generate_series(1, 40);");
    assert!(said.contains("\n40\n") && !said.contains("paged"), "{said}");
    shell.enter(".mode table");
    assert!(shell.enter("select * from generate_series(1, 100);").contains("first 60 of 100 rows"));
    assert!(shell.enter(".pager on").contains(PROMPT));
    assert!(shell.enter("select * from generate_series(1, 100);").contains("paged"));
}

#[test]
fn a_pager_that_is_left_ends_its_query() {
    let home = folder("left");
    let mut shell = Terminal::start(&home, &[], &[("PAGER", "head -n 5")]);
    let said = shell.enter("select * from generate_series(1, 100000000000);");
    assert!(said.contains("|     2 |") && !said.contains("error"), "{said}");
    // It is left while the query has no more rows for long.
    let pager = script(&home.join("pager"), "head -n 5; sleep 1");
    let mut shell = Terminal::start(&home, &[], &[("PAGER", &pager)]);
    let slow = ENDLESS.trim_end_matches(';');
    let slow = &format!("select * from generate_series(1, 100) union all ({slow});");
    let said = shell.enter(slow);
    assert!(said.contains("|     2 |") && !said.contains("error"), "{said}");
    assert!(shell.enter("select 8 as eight;").contains("| eight |"));
}

#[test]
fn less_is_the_pager_where_no_other_is_named() {
    if Command::new("less").arg("--version").output().is_err() {
        println!("skipped: there is no less");
        return;
    }
    let mut shell = Terminal::start(&folder("less"), &[], &[]);
    shell.press("select * from generate_series(1, 1000000);\r");
    shell.expect("    20 |");
    // To less Ctrl-C is no reason to end: the next page is still its own.
    shell.press(CTRL_C);
    shell.press_until(" ", "    40 |");
    shell.press("q");
    let said = shell.settle();
    assert!(!said.contains("error") && !said.contains(" 200 |"), "{said}");
    assert!(shell.enter("select 9 as nine;").contains("| nine |"));
}

#[test]
fn results_that_are_redirected_have_no_prompts_in_them() {
    let home = folder("redirected");
    let out = home.join("out.csv");
    let command = format!("{} sql --format csv > {}", env!("CARGO_BIN_EXE_millstream"), out.display());
    let shell = script(&home.join("redirected"), &command);
    let mut terminal = Terminal::of(Command::new(shell), &home, &[]);
    terminal.enter("select 1 as a;");
    terminal.press(CTRL_D);
    assert_eq!(terminal.ends(), Some(0));
    assert_eq!(std::fs::read_to_string(out).unwrap(), "a\n1\n");
}

/// The commands and statements of the guide, in its order, in an empty folder.
#[test]
fn the_guide_of_the_shell_runs() {
    let page = include_str!("../../../docs/guide/shell.md");
    let blocks: Vec<&str> = page.split("```sql\n").skip(1).filter_map(|b| b.split("```").next()).collect();
    assert!(blocks.len() >= 3, "the guide has statements");
    let home = folder("guide");
    let mut shell = Terminal::start(&home, &[], &[("PAGER", "cat")]);
    for block in blocks {
        std::fs::write(home.join("block.sql"), block).unwrap();
        let said = shell.enter(".read block.sql");
        assert!(!said.contains("error"), "{block}\n{said}");
    }
    assert!(home.join("sums.csv").is_file());
}
