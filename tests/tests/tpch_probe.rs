//! scratch
use datafusion::physical_plan::displayable;
#[tokio::test(flavor = "multi_thread")]
async fn probe() {
    let data = std::env::var("TPCH").unwrap();
    let queries = std::env::var("Q").unwrap_or_default();
    for stages in [true, false] {
        let s = millstream::Session::with_options(millstream::Options { threads: 2, stages, ..Default::default() }).unwrap();
        for t in ["lineitem","orders","customer","part","partsupp","supplier","nation","region"] {
            s.register(t, &format!("{data}/{t}.parquet")).await.unwrap();
        }
        for q in 1..=22 {
            let id = format!("q{q}");
            if !queries.is_empty() && !queries.split(',').any(|x| x == id) { continue; }
            let sql = std::fs::read_to_string(format!("../benches/suites/tpch/{id}.sql")).unwrap();
            let mut best = f64::MAX; let mut rows = 0; let mut err = String::new();
            if std::env::var("PLAN").is_ok() {
                let plan = s.sql(&sql).await.unwrap().plan().await;
                match plan { Ok(p) => println!("{}", displayable(p.as_ref()).indent(false)), Err(e) => println!("PLAN ERROR {e}") }
            }
            for _ in 0..4 {
                let t = std::time::Instant::now();
                match s.sql(&sql).await.unwrap().collect().await {
                    Ok(b) => { rows = b.iter().map(|b| b.num_rows()).sum();
                        if std::env::var("ROWS").is_ok() { println!("{}", arrow::util::pretty::pretty_format_batches(&b).unwrap()); } }
                    Err(e) => { err = e.to_string(); break; }
                }
                best = best.min(t.elapsed().as_secs_f64() * 1e3);
            }
            println!("stages={stages} {id} {best:.1} ms rows={rows} {err}");
        }
    }
}
