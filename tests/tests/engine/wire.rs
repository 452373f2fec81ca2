//! Plans with stages, encoded and decoded: the same plan, the same answers; refusals that say why.

use crate::world::{SCALE, session, suite_tpch};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::DataType;
use arrow::util::pretty::pretty_format_batches;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion_proto::bytes::{physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec};
use datafusion_proto::physical_plan::{DefaultPhysicalProtoConverter, PhysicalExtensionCodec};
use millstream::{Options, Preference, Session};
use millstream_benches::{answer, verify};
use millstream_kernels::{Values, Vector};
use millstream_stage::run::sink::average;
use millstream_stage::{StageCodec, StageExec};
use std::sync::Arc;

type Plan = Arc<dyn ExecutionPlan>;

/// The plan after a journey: it is decoded with its bytes and another session's task.
pub fn sent(plan: Plan) -> Plan {
    let codec = StageCodec::default();
    let bytes = physical_plan_to_bytes_with_extension_codec(plan, &codec).expect("an encoded plan");
    physical_plan_from_bytes_with_extension_codec(&bytes, &elsewhere().context().task_ctx(), &codec).expect("a decoded plan")
}

/// A session that has neither the tables nor the plans of any other.
pub fn elsewhere() -> Session {
    Session::with_options(Options { threads: 2, ..Options::default() }).expect("a session")
}

async fn rows(plan: Plan) -> Vec<RecordBatch> {
    collect(plan, elsewhere().context().task_ctx()).await.expect("rows")
}

/// The plan as text, without a hint of DataFusion's that it does not send along.
fn text(plan: &Plan) -> String {
    let text = displayable(plan.as_ref()).indent(false).to_string();
    let pieces = text.split(", sort_order_for_reorder=[");
    let kept = pieces.enumerate().map(|(i, p)| if i == 0 { p } else { p.split_once(']').map_or("", |(_, rest)| rest) });
    kept.collect()
}

fn stages(plan: &Plan, out: &mut Vec<Arc<dyn ExecutionPlan>>) {
    if plan.is::<StageExec>() {
        out.push(Arc::clone(plan));
    }
    plan.children().into_iter().for_each(|c| stages(c, out));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_is_the_same_plan_with_the_same_answer() {
    let session = session(true, Preference::Cpu).await;
    for q in suite_tpch().queries {
        let plan = session.sql(q.sql).await.unwrap().plan().await.unwrap();
        let before = text(&plan);
        let plan = sent(plan);
        assert_eq!(text(&plan), before, "{}", q.id);
        let expected = answer(suite_tpch(), SCALE, q).unwrap().unwrap();
        verify(q, &expected, &rows(plan).await).unwrap_or_else(|m| panic!("{}: {m}", q.id));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scans_of_text_and_arrow_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    for name in ["t.csv", "t.tsv", "t.json", "t.arrow"] {
        let session = elsewhere();
        session.sql("select * from (values (1, 'a'), (2, 'b'), (3, 'a')) t(n, s)").await.unwrap().write(&path(name)).await.unwrap();
        let sql = format!("select s, sum(n) from '{}' group by s order by s", path(name));
        let plan = session.sql(&sql).await.unwrap().plan().await.unwrap();
        let (before, expected) = (text(&plan), rows(Arc::clone(&plan)).await);
        let plan = sent(plan);
        assert_eq!(text(&plan), before, "{name}");
        assert!(before.contains("StageExec"), "{before}");
        let table = |rows: &[RecordBatch]| pretty_format_batches(rows).unwrap().to_string();
        assert_eq!(table(&rows(plan).await), table(&expected), "{name}");
    }
    let session = elsewhere();
    session.sql("select 1 as n").await.unwrap().write(&path("t.csv.gz")).await.unwrap();
    let plan = session.sql(&format!("select n from '{}'", path("t.csv.gz"))).await.unwrap().plan().await.unwrap();
    let error = physical_plan_to_bytes_with_extension_codec(plan, &StageCodec::default()).unwrap_err();
    assert!(error.to_string().contains("cannot be sent"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_filter_still_reaches_the_scan() {
    let session = session(true, Preference::Cpu).await;
    let sql = "select count(*) from lineitem join orders on l_orderkey = o_orderkey where o_orderkey between 100 and 200";
    let plan = sent(session.sql(sql).await.unwrap().plan().await.unwrap());
    assert!(text(&plan).contains("DynamicFilter [ empty ]"), "{}", text(&plan));
    rows(Arc::clone(&plan)).await;
    let after = text(&plan);
    assert!(after.contains("DynamicFilter [ l_orderkey") && !after.contains("DynamicFilter [ empty ]"), "{after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scalar_subqueries_arrive_and_are_told_apart() {
    let session = session(true, Preference::Cpu).await;
    for (sql, count) in [
        (
            "select count(*) from nation where n_nationkey > (select min(r_regionkey) from region) and n_nationkey < (select max(r_regionkey) from region)",
            3,
        ),
        // In calls, with a function and with a type that no kernel has.
        ("select count(*) from nation where substr(n_name, 1, 1) = upper((select min(lower(substr(n_name, 1, 1))) from nation))", 2),
        ("select count(*) from nation where cast(n_nationkey as float) > (select max(cast(r_regionkey as float)) from region)", 20),
    ] {
        let plan = session.sql(sql).await.unwrap().plan().await.unwrap();
        assert!(text(&plan).contains("ScalarSubqueryExec") && text(&plan).contains("StageExec"), "{}", text(&plan));
        let decoded = sent(Arc::clone(&plan));
        assert_eq!(text(&decoded), text(&plan));
        for plan in [plan, decoded] {
            let rows = rows(plan).await;
            assert_eq!(rows[0].column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0), count, "{sql}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_refused_and_never_panics() {
    let session = session(true, Preference::Cpu).await;
    let codec = StageCodec::default();
    let mut all = vec![];
    for id in ["q1", "q13", "q22"] {
        let plan = session.sql(suite_tpch().query(id).unwrap().sql).await.unwrap().plan().await.unwrap();
        stages(&plan, &mut all);
    }
    let mut seed = 42u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for stage in all {
        let children: Vec<Plan> = stage.children().into_iter().cloned().collect();
        let decode = |bytes: &[u8]| codec.try_decode(bytes, &children, &TaskContext::default(), &DefaultPhysicalProtoConverter {});
        let mut bytes = vec![];
        codec.try_encode(Arc::clone(&stage), &mut bytes, &DefaultPhysicalProtoConverter {}).unwrap();
        // Scalar subqueries need their scope, but a stage's own message does not.
        decode(&bytes).unwrap();
        for _ in 0..100 {
            assert!(decode(&bytes[..random(bytes.len())]).is_err());
            let mut flipped = bytes.clone();
            flipped[random(bytes.len())] ^= 1 << random(8);
            assert!(decode(&flipped).is_err());
        }
    }
}

/// Found by fuzzing (tests/fuzz): a message whose aggregate returns a scale that no plan has.
#[test]
fn an_average_of_an_impossible_scale_is_refused() {
    let one = |v: i64| Vector::with_valid(Values::I64(vec![v].into()), None);
    let mean = |sums: i8, result: i8| average(&one(6), &one(4), &DataType::Decimal128(38, result), sums);
    assert!(matches!(mean(2, 6).unwrap().values, Values::I128(v) if v[0] == 15_000));
    for (sums, result) in [(0, 127), (2, 0), (100, -128)] {
        assert!(mean(sums, result).is_err(), "{sums} {result}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closure_travels_only_by_a_registered_name() {
    let closure = |args: &[ColumnarValue]| Ok(args[0].clone());
    let same = Arc::new(create_udf("secretly", vec![DataType::Utf8View], DataType::Utf8View, Volatility::Immutable, Arc::new(closure)));
    let session = session(true, Preference::Cpu).await;
    session.context().register_udf(same.as_ref().clone());
    let sql = "select n_name from nation where secretly(n_name) = 'PERU'";
    let plan = session.sql(sql).await.unwrap().plan().await.unwrap();
    assert!(text(&plan).contains("secretly"), "{}", text(&plan));

    let error = physical_plan_to_bytes_with_extension_codec(Arc::clone(&plan), &StageCodec::default()).unwrap_err();
    assert!(error.to_string().contains("function secretly is not registered"), "{error}");

    let knowing = StageCodec::default().with_functions([same]);
    let bytes = physical_plan_to_bytes_with_extension_codec(plan, &knowing).unwrap();
    let error = physical_plan_from_bytes_with_extension_codec(&bytes, &TaskContext::default(), &StageCodec::default()).unwrap_err();
    assert!(error.to_string().contains("function secretly is not registered"), "{error}");
    let plan = physical_plan_from_bytes_with_extension_codec(&bytes, &TaskContext::default(), &knowing).unwrap();
    assert!(pretty_format_batches(&rows(plan).await).unwrap().to_string().contains("PERU"));
}
