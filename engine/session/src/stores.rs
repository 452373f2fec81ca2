//! Object stores by URL: made when a URL is first used, from settings and the environment.
//!
//! `object_store` does the work and the retries. Here is which store a URL means, where credentials come from,
//! and what an error of a store means for the user.

mod local;

use crate::ErrorKind;
use crate::files::{invalid, unsupported};
use async_trait::async_trait;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::{ClientOptions, CredentialProvider, ObjectStore, RetryConfig};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use url::Url;

/// How object stores are reached.
///
/// ```
/// use millstream::{Options, StoreOptions};
/// let minio = [("AWS_ENDPOINT_URL", "http://localhost:9000"), ("AWS_ALLOW_HTTP", "true")];
/// let stores = StoreOptions { max_retries: 3, ..StoreOptions::default() }.with(minio);
/// let session = millstream::Session::with_options(Options { stores, ..Options::default() })?;
/// # Ok::<(), millstream::Error>(())
/// ```
#[derive(Clone)]
pub struct StoreOptions {
    /// Credentials, endpoints and the like, by the names that variables of the environment have (`AWS_REGION`,
    /// `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME`, ...). They go before the environment.
    pub settings: Vec<(String, String)>,
    /// Whether the process's environment is read too, when a store is first used.
    pub environment: bool,
    /// How often a request is tried again that a server did not answer, or answered with an error of its own.
    pub max_retries: usize,
    /// Time after which a request is not tried again.
    pub retry_timeout: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        let retry = RetryConfig::default();
        Self { settings: vec![], environment: true, max_retries: retry.max_retries, retry_timeout: retry.retry_timeout }
    }
}

impl StoreOptions {
    /// With these settings, too.
    ///
    /// ```
    /// let stores = millstream::StoreOptions::default().with([("AWS_REGION", "eu-central-1")]);
    /// assert_eq!(stores.settings.len(), 1);
    /// ```
    pub fn with<'a>(mut self, settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        self.settings.extend(settings.into_iter().map(|(name, value)| (name.to_string(), value.to_string())));
        self
    }
}

/// Without values: they are secrets.
impl std::fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.settings.iter().map(|(name, _)| name).collect();
        let retries = (self.max_retries, self.retry_timeout);
        f.debug_struct("StoreOptions").field("settings", &names).field("environment", &self.environment).field("retries", &retries).finish()
    }
}

const SCHEMES: &str = "file, s3, s3a, gs, az, azure, adl, abfs, abfss, http, https";
const S3_ADVICE: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket";
const GS_ADVICE: &str =
    "set GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT to a key file, or GOOGLE_SKIP_SIGNATURE=true for a public bucket";
const AZ_ADVICE: &str = "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_SKIP_SIGNATURE=true for a public container";

/// The stores of a session.
pub(crate) struct Stores {
    options: StoreOptions,
    /// By scheme and authority.
    known: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl Stores {
    pub(crate) fn new(options: StoreOptions) -> Self {
        let local: Arc<dyn ObjectStore> = Arc::new(local::LocalFiles::default());
        Self { options, known: Mutex::new([("file://".to_string(), local)].into()) }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<dyn ObjectStore>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Settings whose names begin with `prefix`, the last one of a name counts.
    fn settings(&self, prefix: &str) -> Vec<(String, String)> {
        let mut out = if self.options.environment { environment(prefix) } else { vec![] };
        out.extend(self.options.settings.iter().filter(|(name, _)| name.to_ascii_uppercase().starts_with(prefix)).cloned());
        out
    }

    fn retry(&self) -> RetryConfig {
        RetryConfig { max_retries: self.options.max_retries, retry_timeout: self.options.retry_timeout, ..RetryConfig::default() }
    }

    fn make(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let place = key(url);
        let cannot = |advice: &str, e: object_store::Error| invalid(format!("{place}: {e}: {advice}"));
        match url.scheme() {
            "s3" | "s3a" => self.s3(url).map_err(|e| cannot(S3_ADVICE, e)),
            "gs" => self.gs(url).map_err(|e| cannot(GS_ADVICE, e)),
            "az" | "azure" | "adl" | "abfs" | "abfss" => self.az(url).map_err(|e| cannot(AZ_ADVICE, e)),
            "http" | "https" => {
                let options = ClientOptions::new().with_allow_http(true);
                let builder = HttpBuilder::new().with_url(&url[..url::Position::BeforePath]);
                let store = builder.with_client_options(options).with_retry(self.retry()).build();
                store.map(|s| Arc::new(s) as Arc<dyn ObjectStore>).map_err(|e| cannot("is the URL right?", e))
            }
            other => Err(unsupported(format!("{place}: {other}:// is no known store: there are {SCHEMES}"))),
        }
    }

    fn s3(&self, url: &Url) -> object_store::Result<Arc<dyn ObjectStore>> {
        let settings = self.settings("AWS_");
        let made = |retry: RetryConfig| {
            let builder = AmazonS3Builder::new().with_url(url.as_str()).with_retry(retry);
            settings.iter().fold(builder, |b, (name, value)| match name.to_ascii_lowercase().parse() {
                Ok(name) => b.with_config(name, value),
                Err(_) => b,
            })
        };
        let mut builder = made(self.retry());
        if !says(&settings, &["ACCESS_KEY", "WEB_IDENTITY", "CONTAINER_CREDENTIALS", "SKIP_SIGNATURE"]) {
            let metadata = Arc::clone(made(soon()).build()?.credentials());
            builder = builder.with_credentials(Arc::new(Advised { inner: metadata, place: key(url), advice: S3_ADVICE }));
        }
        Ok(Arc::new(builder.build()?))
    }

    fn gs(&self, url: &Url) -> object_store::Result<Arc<dyn ObjectStore>> {
        let settings = self.settings("GOOGLE_");
        let made = |retry: RetryConfig| {
            let builder = GoogleCloudStorageBuilder::new().with_url(url.as_str()).with_retry(retry);
            settings.iter().fold(builder, |b, (name, value)| match name.to_ascii_lowercase().parse() {
                Ok(name) => b.with_config(name, value),
                Err(_) => b,
            })
        };
        let mut builder = made(self.retry());
        if !says(&settings, &["CREDENTIALS", "SERVICE_ACCOUNT", "SKIP_SIGNATURE"]) {
            let metadata = Arc::clone(made(soon()).build()?.credentials());
            builder = builder.with_credentials(Arc::new(Advised { inner: metadata, place: key(url), advice: GS_ADVICE }));
        }
        Ok(Arc::new(builder.build()?))
    }

    fn az(&self, url: &Url) -> object_store::Result<Arc<dyn ObjectStore>> {
        let settings = self.settings("AZURE_");
        let made = |retry: RetryConfig| {
            let builder = MicrosoftAzureBuilder::new().with_url(url.as_str()).with_retry(retry);
            settings.iter().fold(builder, |b, (name, value)| match name.to_ascii_lowercase().parse() {
                Ok(name) => b.with_config(name, value),
                Err(_) => b,
            })
        };
        let mut builder = made(self.retry());
        if !says(&settings, &["KEY", "TOKEN", "SAS", "SECRET", "FEDERATED", "EMULATOR", "AZURE_CLI", "SKIP_SIGNATURE"]) {
            let metadata = Arc::clone(made(soon()).build()?.credentials());
            builder = builder.with_credentials(Arc::new(Advised { inner: metadata, place: key(url), advice: AZ_ADVICE }));
        }
        Ok(Arc::new(builder.build()?))
    }
}

/// Variables of the process whose names begin with `prefix`.
#[expect(clippy::disallowed_methods, reason = "credentials are in the environment; who does not want that says so in StoreOptions")]
fn environment(prefix: &str) -> Vec<(String, String)> {
    let text = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    text.filter(|(name, _)| name.starts_with(prefix)).collect()
}

fn says(settings: &[(String, String)], parts: &[&str]) -> bool {
    settings.iter().any(|(name, _)| parts.iter().any(|p| name.to_ascii_uppercase().contains(p)))
}

/// The metadata service of a cloud's machine answers at once or is not there.
fn soon() -> RetryConfig {
    RetryConfig { max_retries: 1, retry_timeout: Duration::from_secs(3), ..RetryConfig::default() }
}

/// Scheme and authority; the container of Azure stands where a user would.
fn key(url: &Url) -> String {
    let user = if url.scheme().starts_with("http") || url.username().is_empty() { String::new() } else { format!("{}@", url.username()) };
    format!("{}://{user}{}", url.scheme(), &url[url::Position::BeforeHost..url::Position::AfterPort])
}

impl ObjectStoreRegistry for Stores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.known().insert(key(url), store)
    }

    fn deregister_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        self.known().remove(&key(url)).ok_or_else(|| invalid(format!("{}: no such store is registered", key(url))))
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let mut known = self.known();
        if let Some(store) = known.get(&key(url)) {
            return Ok(Arc::clone(store));
        }
        let store = self.make(url)?;
        known.insert(key(url), Arc::clone(&store));
        Ok(store)
    }
}

impl std::fmt::Debug for Stores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stores").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Credentials of the machine, for which nobody said others: where there are none, what to set.
#[derive(Debug)]
struct Advised<C> {
    inner: Arc<dyn CredentialProvider<Credential = C>>,
    place: String,
    advice: &'static str,
}

#[async_trait]
impl<C: std::fmt::Debug + Send + Sync> CredentialProvider for Advised<C> {
    type Credential = C;

    async fn get_credential(&self) -> object_store::Result<Arc<C>> {
        self.inner.get_credential().await.map_err(|_| object_store::Error::Unauthenticated {
            path: self.place.clone(),
            source: format!("no credentials: {}", self.advice).into(),
        })
    }
}

/// What an error of a store means: its kind, and a text without XML.
pub(crate) fn explain(e: &object_store::Error) -> (ErrorKind, String) {
    use object_store::Error as E;
    let said = without_xml(&e.to_string());
    match e {
        E::Unauthenticated { path, source } if source.to_string().starts_with("no credentials") => {
            (ErrorKind::Invalid, format!("{path}: {source}"))
        }
        E::Unauthenticated { path, .. } | E::PermissionDenied { path, .. } => {
            (ErrorKind::Invalid, format!("{path}: the store refuses, check the credentials: {said}"))
        }
        E::NotFound { .. } if said.contains("NoSuchBucket") => (ErrorKind::Invalid, format!("there is no such bucket: {said}")),
        E::NotSupported { .. } | E::NotImplemented { .. } => (ErrorKind::Unsupported, said),
        E::Generic { .. } if said.contains("NoSuchBucket") => (ErrorKind::Invalid, format!("there is no such bucket: {said}")),
        E::Generic { .. } if ["retries", "status code: 5", "error sending request"].iter().any(|s| said.contains(s)) => {
            (ErrorKind::Retry, format!("the store does not answer: {said}"))
        }
        _ => (ErrorKind::Invalid, said),
    }
}

/// Code and message of an XML answer, instead of all of it.
fn without_xml(text: &str) -> String {
    let Some(at) = text.find("<?xml").or_else(|| text.find("<Error>")) else { return text.to_string() };
    let element = |name: &str| {
        let (_, rest) = text[at..].split_once(&format!("<{name}>"))?;
        Some(rest.split_once("</")?.0.trim().to_string())
    };
    let parts: Vec<String> = ["Code", "Message"].into_iter().filter_map(element).collect();
    format!("{}{}", &text[..at], parts.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stores(settings: &[(&'static str, &'static str)]) -> Stores {
        Stores::new(StoreOptions { environment: false, ..StoreOptions::default() }.with(settings.iter().copied()))
    }

    fn get(stores: &Stores, url: &str) -> std::result::Result<String, String> {
        let store = stores.get_store(&Url::parse(url).unwrap());
        store.map(|s| s.to_string()).map_err(|e| crate::Error::from(e).to_string())
    }

    #[test]
    fn a_url_says_which_store() {
        let s = stores(&[("AZURE_STORAGE_ACCOUNT_NAME", "me"), ("aws_region", "eu-west-1")]);
        for (url, store) in [
            ("s3://bucket/a/b", "AmazonS3(bucket)"),
            ("s3a://bucket/a", "AmazonS3(bucket)"),
            ("gs://bucket/a", "GoogleCloudStorage(bucket)"),
            ("az://box/a", "MicrosoftAzure { account: me, container: box }"),
            ("abfss://box@you.dfs.core.windows.net/a", "MicrosoftAzure { account: you, container: box }"),
            ("http://localhost:1/a", "HttpStore"),
            ("file:///tmp/a", "LocalFileSystem(file:///)"),
        ] {
            assert_eq!(get(&s, url).as_deref(), Ok(store), "{url}");
        }
        let one = |url: &str| s.get_store(&Url::parse(url).unwrap()).unwrap();
        assert!(Arc::ptr_eq(&one("s3://bucket/x"), &one("s3://bucket/y")) && !Arc::ptr_eq(&one("s3://bucket/"), &one("s3://other/")));
    }

    #[test]
    fn what_is_missing_is_said() {
        let e = get(&stores(&[]), "hdfs://node/a").unwrap_err();
        assert!(e.contains("hdfs://") && e.contains("s3") && e.contains("https"), "{e}");
        let e = get(&stores(&[]), "az://box/a").unwrap_err();
        assert!(e.contains("az://box") && e.contains("AZURE_STORAGE_ACCOUNT_NAME"), "{e}");
        let e = get(&stores(&[("AWS_ACCESS_KEY_ID", "a")]), "s3://box/a").unwrap_err();
        assert!(e.contains("s3://box") && e.contains("AWS_SECRET_ACCESS_KEY"), "{e}");
    }

    #[test]
    fn secrets_are_not_printed() {
        let text = format!("{:?}", stores(&[("AWS_SECRET_ACCESS_KEY", "hush")]));
        assert!(text.contains("AWS_SECRET_ACCESS_KEY") && !text.contains("hush"), "{text}");
    }

    #[test]
    fn an_answer_in_xml_is_shortened() {
        let text = "status 404: <?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>It is not there</Message></Error>";
        assert_eq!(without_xml(text), "status 404: NoSuchBucket: It is not there");
        assert_eq!(without_xml("plain"), "plain");
    }
}
