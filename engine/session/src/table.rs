//! A lazy table: a plan that runs when its rows are asked for.

use crate::error::guarded;
use crate::profile::{Profile, profile_of};
use crate::{Error, ErrorKind, Result, Rows};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::{Column, JoinType};
use datafusion::dataframe::DataFrame;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::expr_fn::when;
use datafusion::logical_expr::{Expr, LogicalPlan, SortExpr};
use datafusion::physical_plan::{ExecutionPlan, collect_partitioned, execute_stream};
use millstream_plan::Machine;
use std::sync::Arc;

/// Which rows a [`Table::join`] keeps.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use millstream::JoinKind;
/// let session = millstream::Session::new()?;
/// let (left, right) = (session.sql("select 1 as k").await?, session.sql("select 2 as k").await?);
/// let kept = left.join(right, ["k"], JoinKind::Anti)?.collect().await?;
/// assert_eq!(kept.iter().map(|b| b.num_rows()).sum::<usize>(), 1);
/// # Ok::<(), millstream::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    /// Pairs of rows with equal keys.
    Inner,
    /// Those, and the left rows without partner.
    Left,
    /// Those, and the right rows without partner.
    Right,
    /// Those, and the rows of both sides without partner.
    Full,
    /// Left rows with a partner, once each; columns of the left side only.
    Semi,
    /// Left rows without a partner; columns of the left side only.
    Anti,
}

/// A lazy table. Every method but the last few only extends the plan.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use millstream::{col, desc, lit, sum};
/// let session = millstream::Session::new()?;
/// session.sql("create table sales as select * from (values ('a', 1), ('b', 5), ('a', 9)) t(shop, n)").await?;
/// let top = session.table("sales")?.filter(col("n").gt(lit(0)))?.group_by([col("shop")], [sum(col("n")).alias("n")])?;
/// let top = top.sort([desc(col("n"))])?.limit(1)?.collect().await?;
/// assert_eq!(top[0].num_rows(), 1);
/// # Ok::<(), millstream::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Table {
    frame: DataFrame,
}

impl Table {
    pub(crate) fn new(frame: DataFrame) -> Self {
        Self { frame }
    }

    pub(crate) fn into_frame(self) -> DataFrame {
        self.frame
    }

    /// Names and types of the columns.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let table = millstream::Session::new()?.sql("select 1 as a").await?;
    /// assert_eq!(table.schema().field(0).name(), "a");
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    pub fn schema(&self) -> SchemaRef {
        Arc::new(self.frame.schema().as_arrow().clone())
    }

    /// The rows for which `predicate` is true; not those for which it is null.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use millstream::{col, lit};
    /// let table = millstream::Session::new()?.sql("select * from (values (1), (null), (3)) t(a)").await?;
    /// assert_eq!(table.filter(col("a").gt(lit(1)))?.collect().await?[0].num_rows(), 1);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Invalid` when a column is not there; the message names the nearest one.
    pub fn filter(self, predicate: Expr) -> Result<Self> {
        Ok(Self::new(self.frame.filter(predicate)?))
    }

    /// These columns, in this order.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use millstream::{col, lit};
    /// let table = millstream::Session::new()?.sql("select 1 as a, 2 as b").await?;
    /// let table = table.select([col("b"), (col("a") + lit(1)).alias("c")])?;
    /// assert_eq!(table.schema().field(1).name(), "c");
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Table::filter`].
    pub fn select(self, columns: impl IntoIterator<Item = Expr>) -> Result<Self> {
        Ok(Self::new(self.frame.select(columns)?))
    }

    /// The table with a column more, or with the one of this name replaced.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use millstream::{col, lit};
    /// let table = millstream::Session::new()?.sql("select 1 as a").await?.with_column("b", col("a") * lit(2))?;
    /// assert_eq!(table.schema().fields().len(), 2);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Table::filter`].
    pub fn with_column(self, name: &str, value: Expr) -> Result<Self> {
        Ok(Self::new(self.frame.with_column(name, value)?))
    }

    /// A row for each group of equal `keys` (null equals null), with `aggregates`; no keys: one row.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use millstream::{avg, col, count};
    /// let table = millstream::Session::new()?.sql("select * from (values (1, 2), (1, 4)) t(k, v)").await?;
    /// let table = table.group_by([col("k")], [count(col("v")).alias("n"), avg(col("v")).alias("mean")])?;
    /// assert_eq!(table.collect().await?[0].num_rows(), 1);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Table::filter`].
    pub fn group_by(self, keys: impl IntoIterator<Item = Expr>, aggregates: impl IntoIterator<Item = Expr>) -> Result<Self> {
        Ok(Self::new(self.frame.aggregate(keys.into_iter().collect(), aggregates.into_iter().collect())?))
    }

    /// Rows of both tables with equal `keys`, columns that both have; null matches nothing. Each key is
    /// there once in the result, first the left columns, then the right ones.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let session = millstream::Session::new()?;
    /// let left = session.sql("select * from (values (1, 'x'), (2, 'y')) t(k, a)").await?;
    /// let right = session.sql("select * from (values (2, 'z')) t(k, b)").await?;
    /// let rows = left.join(right, ["k"], millstream::JoinKind::Inner)?.collect().await?;
    /// assert_eq!((rows[0].num_rows(), rows[0].num_columns()), (1, 3));
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Invalid` when a key is not on both sides, or another column is.
    pub fn join<'a>(self, other: Table, keys: impl IntoIterator<Item = &'a str>, kind: JoinKind) -> Result<Self> {
        let keys: Vec<&str> = keys.into_iter().collect();
        let (ours, theirs) = (columns(&self.frame), columns(&other.frame));
        let find = |side: &[Column], key: &str, name: &str| {
            let found = side.iter().find(|c| c.name == key).cloned();
            found.ok_or_else(|| Error::new(ErrorKind::Invalid, format!("join key {key} is no column of the {name} table")))
        };
        // The right side's keys get names of their own, so that both can be told apart below.
        let renamed = |c: &Column| if keys.contains(&c.name.as_str()) { format!("{} (right)", c.name) } else { c.name.clone() };
        let mut on = vec![];
        for key in &keys {
            on.push((find(&ours, key, "left")?, Column::from_name(renamed(&find(&theirs, key, "right")?))));
        }
        let rows_of_left = matches!(kind, JoinKind::Semi | JoinKind::Anti);
        let shared = theirs.iter().find(|c| !keys.contains(&c.name.as_str()) && ours.iter().any(|o| o.name == c.name));
        if let Some(c) = shared.filter(|_| !rows_of_left) {
            let message = format!("both tables of a join have a column {}: make it a key, or give one another name with select", c.name);
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let select = theirs.iter().filter(|c| !rows_of_left || keys.contains(&c.name.as_str()));
        let right = other.frame.select(select.map(|c| Expr::Column(c.clone()).alias(renamed(c))).collect::<Vec<_>>())?;
        let equal = on.iter().map(|(l, r)| Expr::Column(l.clone()).eq(Expr::Column(r.clone())));
        let joined = self.frame.join_on(right, kind.join_type(), equal)?;
        let mut out = vec![];
        for c in &ours {
            let value = Expr::Column(c.clone());
            out.push(match on.iter().find(|(l, _)| l == c).filter(|_| matches!(kind, JoinKind::Right | JoinKind::Full)) {
                Some((_, r)) => when(value.clone().is_not_null(), value).otherwise(Expr::Column(r.clone()))?.alias(&c.name),
                None => value.alias(&c.name),
            });
        }
        if !rows_of_left {
            out.extend(theirs.iter().filter(|c| !keys.contains(&c.name.as_str())).map(|c| Expr::Column(Column::from_name(&c.name))));
        }
        Ok(Self::new(joined.select(out)?))
    }

    /// The rows of both tables, one after the other; types must agree, the names are ours.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let session = millstream::Session::new()?;
    /// let both = session.sql("select 1 as a").await?.union(session.sql("select 2 as a").await?)?;
    /// assert_eq!(both.collect().await?.iter().map(|b| b.num_rows()).sum::<usize>(), 2);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Invalid` when the columns do not fit together.
    pub fn union(self, other: Table) -> Result<Self> {
        Ok(Self::new(self.frame.union(other.frame)?))
    }

    /// Every different row once.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let table = millstream::Session::new()?.sql("select * from (values (1), (1)) t(a)").await?;
    /// assert_eq!(table.distinct()?.collect().await?[0].num_rows(), 1);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Unsupported` for a type that cannot be compared.
    pub fn distinct(self) -> Result<Self> {
        Ok(Self::new(self.frame.distinct()?))
    }

    /// The rows in order, see [`asc`](crate::asc) and [`desc`](crate::desc).
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use millstream::{asc, col, desc};
    /// let table = millstream::Session::new()?.sql("select * from (values (1, 2), (1, 3)) t(a, b)").await?;
    /// let table = table.sort([asc(col("a")), desc(col("b"))])?;
    /// assert_eq!(table.collect().await?[0].num_rows(), 2);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Table::filter`].
    pub fn sort(self, keys: impl IntoIterator<Item = SortExpr>) -> Result<Self> {
        Ok(Self::new(self.frame.sort(keys.into_iter().collect())?))
    }

    /// The first `rows` rows.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let table = millstream::Session::new()?.sql("select * from (values (1), (2)) t(a)").await?;
    /// assert_eq!(table.limit(1)?.collect().await?[0].num_rows(), 1);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// What planning raises.
    pub fn limit(self, rows: usize) -> Result<Self> {
        Ok(Self::new(self.frame.limit(0, Some(rows))?))
    }

    /// All rows but the first `rows`.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let table = millstream::Session::new()?.sql("select * from (values (1), (2), (3)) t(a)").await?;
    /// assert_eq!(table.skip(1)?.collect().await?.iter().map(|b| b.num_rows()).sum::<usize>(), 2);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// What planning raises.
    pub fn skip(self, rows: usize) -> Result<Self> {
        Ok(Self::new(self.frame.limit(rows, None)?))
    }

    /// Runs the plan for all rows. Without a sort their order is not defined; rows that are only read and picked
    /// keep that of the batches or files.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let rows = millstream::Session::new()?.sql("select 1").await?.collect().await?;
    /// assert_eq!(rows[0].num_rows(), 1);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// What the data raises; `Bug` when the engine or a user's function panicked.
    pub async fn collect(self) -> Result<Vec<RecordBatch>> {
        let ctx = Arc::new(self.frame.task_ctx());
        let plan = self.plan().await?;
        guarded(in_order(plan, ctx)).await
    }

    /// Runs the plan; batches come as they are ready. Dropping the stream cancels the query.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let mut rows = millstream::Session::new()?.sql("select 1").await?.stream().await?;
    /// while let Some(batch) = rows.next().await {
    ///     assert_eq!(batch?.num_rows(), 1);
    /// }
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// What planning raises; what the data raises comes in the stream.
    pub async fn stream(self) -> Result<Rows> {
        let ctx = Arc::new(self.frame.task_ctx());
        let plan = self.plan().await?;
        guarded(async { started(&plan, ctx) }).await
    }

    /// The physical plan, stages carved and placed.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let plan = millstream::Session::new()?.sql("select 1").await?.plan().await?;
    /// assert_eq!(plan.schema().fields().len(), 1);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// What planning raises.
    pub async fn plan(self) -> Result<Arc<dyn ExecutionPlan>> {
        guarded(async { Ok(self.frame.create_physical_plan().await?) }).await
    }

    /// Runs the plan for all rows, and says what each stage and each stock operator did.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let table = millstream::Session::new()?.sql("select a, count(*) from (values (1), (1)) t(a) group by a").await?;
    /// let (rows, profile) = table.profile().await?;
    /// assert_eq!(profile.stages[0].output_rows, rows[0].num_rows());
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Table::collect`].
    pub async fn profile(self) -> Result<(Vec<RecordBatch>, Profile)> {
        let ctx = Arc::new(self.frame.task_ctx());
        let plan = self.plan().await?;
        let rows = guarded(in_order(Arc::clone(&plan), ctx)).await?;
        Ok((rows, profile_of(&plan)))
    }

    /// Where the query will run, without running it: times and rows of the profile are zero.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let table = millstream::Session::new()?.sql("select count(*) from (values (1)) t(a) where a > 0").await?;
    /// println!("{}", table.stages().await?);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// What planning raises.
    pub async fn stages(self) -> Result<Profile> {
        Ok(profile_of(&self.plan().await?))
    }

    /// Whether running it changes something outside: COPY, INSERT. Statements that define something have done so when
    /// [`Session::sql`](crate::Session::sql) returned, and are none.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let session = millstream::Session::new()?;
    /// assert!(session.sql("copy (select 1) to 'never-run.csv'").await?.writes());
    /// assert!(!session.sql("select 1").await?.writes());
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    pub fn writes(&self) -> bool {
        matches!(self.frame.logical_plan(), LogicalPlan::Copy(_) | LogicalPlan::Dml(_))
    }

    /// The query below an EXPLAIN statement, and whether it says ANALYZE; none for any other query, and for
    /// EXPLAIN VERBOSE, whose rows show the plan after each rule.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let session = millstream::Session::new()?;
    /// let (query, analyze) = session.sql("explain select 1 as a").await?.explained().unwrap();
    /// assert_eq!((query.schema().field(0).name().as_str(), analyze), ("a", false));
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    pub fn explained(&self) -> Option<(Table, bool)> {
        let (state, plan) = self.frame.clone().into_parts();
        let (query, analyze) = match plan {
            LogicalPlan::Explain(e) if !e.verbose => (e.plan, false),
            LogicalPlan::Analyze(a) if !a.verbose => (a.input, true),
            _ => return None,
        };
        Some((Self::new(DataFrame::new(state, query.as_ref().clone())), analyze))
    }
}

/// The rows of a plan that is at hand already, for instance to read its [`profile_of`] afterwards.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let session = millstream::Session::new()?;
/// let plan = session.sql("select 1").await?.plan().await?;
/// let mut rows = millstream::run(&session, &plan)?;
/// assert_eq!(rows.next().await.unwrap()?.num_rows(), 1);
/// # Ok::<(), millstream::Error>(()) }).unwrap();
/// ```
///
/// # Errors
/// What starting the plan raises.
pub fn run(session: &crate::Session, plan: &Arc<dyn ExecutionPlan>) -> Result<Rows> {
    started(plan, session.context().task_ctx())
}

fn started(plan: &Arc<dyn ExecutionPlan>, ctx: Arc<TaskContext>) -> Result<Rows> {
    Ok(Rows::new(execute_stream(Arc::clone(plan), Arc::clone(&ctx))?).teaching(plan, &ctx))
}

/// The rows of a plan, those of its first partition first.
async fn in_order(plan: Arc<dyn ExecutionPlan>, ctx: Arc<TaskContext>) -> Result<Vec<RecordBatch>> {
    let rows = collect_partitioned(Arc::clone(&plan), Arc::clone(&ctx)).await?.into_iter().flatten().collect();
    if let Some(machine) = ctx.session_config().get_extension::<Machine>() {
        machine.learn(&plan);
    }
    Ok(rows)
}

impl JoinKind {
    fn join_type(self) -> JoinType {
        match self {
            JoinKind::Inner => JoinType::Inner,
            JoinKind::Left => JoinType::Left,
            JoinKind::Right => JoinType::Right,
            JoinKind::Full => JoinType::Full,
            JoinKind::Semi => JoinType::LeftSemi,
            JoinKind::Anti => JoinType::LeftAnti,
        }
    }
}

fn columns(frame: &DataFrame) -> Vec<Column> {
    frame.schema().columns()
}
