//! Stages in a DataFusion session that Millstream did not make.

use crate::world::data;
use datafusion::config::ConfigOptions;
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[tokio::test(flavor = "multi_thread")]
async fn accelerate_adds_stages_and_keeps_the_answers() {
    let sql = "select l_returnflag, count(*) n, sum(l_quantity) q, avg(l_discount) d from lineitem where l_quantity > 10 group by l_returnflag order by 1";
    let mut answers = vec![];
    for ours in [false, true] {
        let builder = SessionStateBuilder::new().with_default_features();
        let builder = if ours { millstream::accelerate(builder) } else { builder };
        let ctx = SessionContext::new_with_state(builder.build());
        let path = data().join("lineitem.parquet");
        ctx.register_parquet("lineitem", path.to_string_lossy(), ParquetReadOptions::default()).await.unwrap();
        let frame = ctx.sql(sql).await.unwrap();
        let plan = displayable(frame.clone().create_physical_plan().await.unwrap().as_ref()).indent(false).to_string();
        assert_eq!(plan.contains("StageExec"), ours);
        answers.push(arrow::util::pretty::pretty_format_batches(&frame.collect().await.unwrap()).unwrap().to_string());
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn integer_overflow_wraps_in_a_host_and_fails_in_millstream() {
    let sql = "select sum(a) from (values (9223372036854775807), (1)) t(a)";
    let host = SessionContext::new_with_state(millstream::accelerate(SessionStateBuilder::new().with_default_features()).build());
    let rows = host.sql(sql).await.unwrap().collect().await.unwrap();
    assert!(arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string().contains("-9223372036854775808"));
    let ours = millstream::Session::new().unwrap();
    let error = ours.sql(sql).await.unwrap().collect().await.unwrap_err();
    assert!(error.to_string().contains("overflow"), "{error}");
}

/// A rule of the host's that only counts how often it is asked.
#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl PhysicalOptimizerRule for Counting {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(plan)
    }

    fn name(&self) -> &str {
        "Counting"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hosts_own_rules_are_kept() {
    for appended in [true, false] {
        let rule = Arc::new(Counting::default());
        let builder = SessionStateBuilder::new().with_default_features();
        let builder = if appended {
            builder.with_physical_optimizer_rule(Arc::clone(&rule) as _)
        } else {
            let mut rules = PhysicalOptimizer::new().rules;
            rules.push(Arc::clone(&rule) as _);
            builder.with_physical_optimizer_rules(rules)
        };
        let ctx = SessionContext::new_with_state(millstream::accelerate(builder).build());
        let frame = ctx.sql("select a, count(*) from (values (1), (1)) t(a) group by a").await.unwrap();
        let plan = displayable(frame.clone().create_physical_plan().await.unwrap().as_ref()).indent(false).to_string();
        assert!(plan.contains("StageExec") && rule.0.load(Ordering::Relaxed) > 0, "appended {appended}: {plan}");
        assert_eq!(frame.collect().await.unwrap()[0].num_rows(), 1);
    }
}
