//! The statements of a sqllogictest file.

use std::path::Path;

/// One statement or query; what the file expects of it is left out.
#[derive(Debug)]
pub struct Record {
    /// Where it stands, in its file or an included one.
    pub line: usize,
    pub sql: String,
    /// For another engine, or with variables in it.
    pub skipped: bool,
}

/// The records of a file and of those it includes.
pub fn records(file: &Path) -> Vec<Record> {
    let text = std::fs::read_to_string(file).expect("a file of tests");
    parse(&text, &|name| {
        let folder = file.parent().expect("a folder");
        let (folder, name) = name.rsplit_once('/').map_or((folder.to_path_buf(), name), |(sub, name)| (folder.join(sub), name));
        let (before, after) = name.split_once('*').unwrap_or((name, ""));
        let mut found: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
        found.retain(|path| {
            let found = path.file_name().unwrap_or_default().to_string_lossy();
            if name.contains('*') { found.starts_with(before) && found.ends_with(after) } else { found == name }
        });
        found.sort();
        found.iter().flat_map(|path| records(path)).collect()
    })
}

fn parse(text: &str, included: &dyn Fn(&str) -> Vec<Record>) -> Vec<Record> {
    let mut out = vec![];
    let mut lines = text.lines().enumerate();
    let (mut other_engine, mut variables) = (false, false);
    while let Some((number, line)) = lines.next() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["skipif", engine, ..] => other_engine |= engine.eq_ignore_ascii_case("datafusion"),
            ["onlyif", engine, ..] => other_engine |= !engine.eq_ignore_ascii_case("datafusion"),
            ["control", "substitution", switch] => variables = *switch == "on",
            ["include", name] => out.extend(included(name)),
            ["halt"] => break,
            ["statement" | "query", ..] => {
                let mut sql: Vec<&str> = vec![];
                let mut expected = false;
                for (_, line) in lines.by_ref().take_while(|(_, l)| !l.trim().is_empty()) {
                    expected |= line.trim() == "----";
                    if !expected {
                        sql.push(line);
                    }
                }
                let sql = sql.join("\n").trim_end().trim_end_matches(';').to_string();
                let skipped = other_engine || (variables && sql.contains('$'));
                out.push(Record { line: number + 1, sql, skipped });
                other_engine = false;
            }
            _ => {}
        }
    }
    out
}

#[test]
fn records_of_every_kind() {
    let text = "# about\nstatement ok\ncreate table t as\nselect 1;\n\nquery I rowsort\nselect a\nfrom t\n----\n1\n2\n\n\
                skipif datafusion\nquery I\nselect b\n----\n\nonlyif postgres\nstatement ok\nselect c\n\nstatement error .*no.*\nselect d\n\n\
                include ./x*.slt.part\n\nonlyif datafusion\nquery error no\nselect e\n\ncontrol substitution on\n\nstatement ok\ncopy '$F'\n\n\
                halt\n\nquery I\nselect f\n";
    let found = parse(text, &|name| vec![Record { line: 1, sql: name.into(), skipped: false }]);
    let short: Vec<(usize, &str, bool)> = found.iter().map(|r| (r.line, r.sql.as_str(), r.skipped)).collect();
    let expected = [
        (2, "create table t as\nselect 1", false),
        (6, "select a\nfrom t", false),
        (14, "select b", true),
        (19, "select c", true),
        (22, "select d", false),
        (1, "./x*.slt.part", false),
        (28, "select e", false),
        (33, "copy '$F'", true),
    ];
    assert_eq!(short, expected);
}
