use super::*;

fn csv(text: &str, columns: &[(&str, DataType)], chunk: usize) -> Option<String> {
    let fields: Vec<Field> = columns.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect();
    let every = (0..fields.len()).collect();
    let columns = (!fields.is_empty()).then(|| (Arc::new(Schema::new(fields)), every));
    let mut scan = CsvScan::new(CsvOptions::default(), columns);
    text.as_bytes().chunks(chunk).find_map(|c| scan.push(c)).or_else(|| scan.finish())
}

const AB: &[(&str, DataType)] = &[("a", DataType::Int64), ("b", DataType::Utf8)];

#[test]
fn lines_are_those_of_an_editor() {
    for chunk in [1, 3, 1000] {
        let place = |text| csv(text, AB, chunk).unwrap_or_default();
        assert_eq!(place("a,b\n1,x\n2\n"), "line 3 has 1 column, not 2");
        assert_eq!(place("a,b\n1,x,y\n"), "line 2 has 3 columns, not 2");
        assert_eq!(place("a,b\r\n\r\n1,x\r\n\r\nq,y\r\n").split(" (").next(), Some("line 5, column a: 'q' is no Int64"));
        assert_eq!(place("a,b\n1,\"x\ny\"\n2,\"\"\"\n,\"\nz,3").split(" (").next(), Some("line 6, column a: 'z' is no Int64"));
        assert_eq!(place("a,b\n1,\"x\n2,y\n"), "the quote in line 2 does not end");
        assert_eq!(place("a,b\n1,x\n2,y\n"), "");
        assert_eq!(place(""), "");
    }
}

#[test]
fn without_columns_the_first_line_counts() {
    assert_eq!(csv("a,b\n1,2\n3,4,5\n", &[], 7).unwrap(), "line 3 has 3 columns, not 2");
    let mut scan = CsvScan::new(CsvOptions::default(), None);
    let place = scan.push(b"name,town\nx,\"y,\"\nm,M\xfcnchen\n").or_else(|| scan.finish()).unwrap();
    assert!(place.starts_with("line 3, column town: byte 0xFC is not UTF-8"), "{place}");
}

#[test]
fn a_block_ends_within_a_record() {
    let row = format!("7,{}\n", "x".repeat(1000));
    let text = format!("a,b\n{}8\n", row.repeat(3000));
    assert_eq!(csv(&text, AB, 8192).unwrap(), "line 3002 has 1 column, not 2");
}

#[test]
fn values_are_shortened() {
    let place = csv(&format!("a,b\n{},x\n", "9".repeat(500)), AB, 50).unwrap();
    assert!(place.len() < 250 && place.contains("…' is no Int64"), "{place}");
}

fn json(text: &str) -> Option<String> {
    let columns: SchemaRef = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
    let mut scan = JsonScan::new(&columns).unwrap();
    text.as_bytes().chunks(5).find_map(|c| scan.push(c)).or_else(|| scan.finish())
}

#[test]
fn objects_may_span_lines() {
    let place = |text| json(text).unwrap_or_default();
    assert_eq!(place("{\"a\":1}\n\n{\"a\":\n2}\n{\"a\":\"x\"}\n"), "line 5: whilst decoding field 'a': failed to parse \"x\" as Int64");
    assert!(place("{\"a\":1}\n{\"a\" 2}\n").starts_with("line 2: "), "{}", place("{\"a\":1}\n{\"a\" 2}\n"));
    assert_eq!(place("{\"a\":1}\n{\"a\":"), "the object that begins in line 2 does not end");
    assert_eq!(place("{\"a\":1} {\"a\":2}\n{\"b\":3}"), "");
    assert!(place("{\"a\":1} {\"a\":[]}\n").starts_with("line 1: "));
}
