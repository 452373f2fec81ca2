use super::*;

fn names() -> Names {
    let table = |schema: Option<&str>, table: &str, columns: &[&str]| TableNames {
        schema: schema.map(str::to_string),
        table: table.into(),
        columns: columns.iter().map(|c| c.to_string()).collect(),
    };
    Names {
        tables: vec![
            table(None, "Mixed Case", &["Id", "order"]),
            table(None, "nation", &["n_nationkey", "n_name", "n_comment"]),
            table(None, "region", &["r_regionkey", "r_name"]),
            table(Some("stage"), "raw", &["line"]),
        ],
        functions: ["count", "concat", "nanvl", "sum"].map(str::to_string).to_vec(),
    }
}

/// What a text becomes; `|` is the cursor.
fn completed(text: &str) -> Vec<String> {
    let cursor = text.find('|').unwrap();
    let (start, found) = complete(&text.replace('|', ""), cursor, &names());
    found.into_iter().map(|p| format!("{}{}", &text[..start], p.replacement)).collect()
}

fn check(text: &str, expected: &[&str]) {
    assert_eq!(completed(text), expected, "{text}");
}

#[test]
fn statements_begin_with_keywords() {
    check("sel|", &["select"]);
    check("SEL|", &["SELECT"]);
    check("select 1; sel|", &["select 1; select"]);
    assert!(completed("|").contains(&"copy".to_string()) && !completed("|").contains(&"where".to_string()));
}

#[test]
fn tables_follow_from_and_join() {
    check("select * from na|", &["select * from nation"]);
    check("select * from nation join re|", &["select * from nation join region"]);
    check("select * from nation n, re|", &["select * from nation n, region"]);
    check("select sum(x), na|", &["select sum(x), nanvl(", "select sum(x), natural"]);
    check("describe reg|", &["describe region"]);
    check("select * from mi|", &["select * from \"Mixed Case\""]);
    check("select * from st|", &["select * from stage.raw"]);
    check("select * from stage.|", &["select * from stage.raw"]);
    check("with nice as (select 1) select * from ni|", &["with nice as (select 1) select * from nice"]);
    let all = completed("select * from |");
    assert_eq!(all.len(), 4, "{all:?}");
}

#[test]
fn columns_are_those_of_the_tables_of_the_statement() {
    check("select n_n| from nation", &["select n_nationkey", "select n_name"]);
    check("select n_n| from region", &[]);
    check("select n_n|", &["select n_nationkey", "select n_name"]);
    check("select 1; select r_n| from region; select 2;", &["select 1; select r_name"]);
    check("select * from region r where r.r|", &["select * from region r where r.r_regionkey", "select * from region r where r.r_name"]);
    check("select x.| from nation as x join region y on 1 = 1", &["select x.n_nationkey", "select x.n_name", "select x.n_comment"]);
    check("select nation.n_c| from nation", &["select nation.n_comment"]);
    check("select y.r_n| from nation x, stage.raw s, region y where true", &["select y.r_name"]);
    check(
        "select o| from \"Mixed Case\"",
        &["select \"order\"", "select offset", "select on", "select options", "select or", "select order", "select outer", "select over"],
    );
    check(
        "select i| from \"Mixed Case\" limit 1",
        &[
            "select \"Id\"",
            "select if",
            "select ilike",
            "select in",
            "select inner",
            "select int",
            "select integer",
            "select intersect",
            "select interval",
            "select into",
            "select is",
            "select insert",
        ],
    );
    check("select \"I| from \"Mixed Case\"", &["select \"Id\""]);
    check("select other.| from nation", &[]);
    check("select later.r_n|", &["select later.r_name"]);
    check("select region.|", &["select region.r_regionkey", "select region.r_name"]);
}

#[test]
fn functions_and_keywords_complete_expressions() {
    check("select cou|", &["select count("]);
    check("select COU|", &["select COUNT("]);
    check("select * from nation wh|", &["select * from nation when", "select * from nation where"]);
    check("select 12|", &[]);
    check("select 1 -- sel|", &[]);
    check("select 1 -- note\n fro|", &["select 1 -- note\n from"]);
    check("select 'a' fro|", &["select 'a' from"]);
}

#[test]
fn paths_complete_within_quotes() {
    let folder = std::env::temp_dir().join(format!("millstream-complete-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("it's")).unwrap();
    for file in ["a.csv", "a.parquet", ".hidden"] {
        std::fs::write(folder.join(file), "").unwrap();
    }
    let at = folder.to_string_lossy();
    check(&format!("select * from '{at}/a.|"), &[&format!("select * from '{at}/a.csv'"), &format!("select * from '{at}/a.parquet'")]);
    check(&format!("select * from '{at}/i|"), &[&format!("select * from '{at}/it''s/")]);
    check(
        &format!("select * from '{at}/|"),
        &["a.csv'", "a.parquet'", "it''s/"].map(|n| format!("select * from '{at}/{n}")).each_ref().map(String::as_str),
    );
    check(&format!(".read {at}/a.c|"), &[&format!(".read {at}/a.csv")]);
    check("select * from '/no/such/folder/|", &[]);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn commands_complete_with_their_arguments() {
    check(".ti|", &[".timer"]);
    check(" .mode c|", &[" .mode csv"]);
    check(".timer o|", &[".timer on", ".timer off"]);
    check(".schema na|", &[".schema nation"]);
    check(".quit |", &[]);
    check("select 1;\n.he|", &["select 1;\n.help"]);
    check("select 1\n.he|", &[]);
}
