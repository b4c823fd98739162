//! The models of a server: known by name, loaded when they are asked for.
//!
//! Where:  made by `wootz serve`; the server sees a [`Catalog`].
//! Idea:   headers are read once to know what a model takes; weights come and go on a [`Shelf`] with a budget of memory.
//!         A name from a request is compared with names that are here and never used as a path.
//! Elsewhere: who must go ([`Shelf`]), loading one model ([`open`]).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use wootz_engine::{Shelf, ShelfError, Wanted};
use wootz_remote::{Event, Hub, ModelName, Places, PullRequest, RepoPath};
use wootz_serve::{Catalog, CatalogError, Loaded, ModelCard, NewAdapter, PullProgress, ServedModel, Stay};

use super::opened::{Loading, card, open};
use super::overlays::{self, Base, Overlay};
use crate::commands::check_space;
use crate::model_choice::ModelChoice;

/// How often is looked for models whose time is over.
const SWEEP: Duration = Duration::from_secs(1);

/// What a server may do with models.
pub(crate) struct StockOptions {
    /// Bytes that all models together may take.
    pub max_bytes: u64,
    /// How long a model stays after it was asked for; `None`: until room is needed.
    pub time_to_live: Option<Duration>,
    /// Where models are that are served without having been named.
    pub places: Option<Places>,
    /// Where clients may have models fetched from, and into which places.
    pub hub: Option<(Hub, Places)>,
    /// Whether clients may load adapters from this machine's files, and unload them.
    pub allows_adapters: bool,
}

/// Models by name.
pub(crate) struct Stock {
    loading: Loading,
    options: StockOptions,
    named: Vec<Known>,
    overlays: Mutex<Vec<Overlay>>,
    /// Models of the home by path, as they were at that time.
    seen: Mutex<BTreeMap<PathBuf, (SystemTime, Known)>>,
    shelf: Shelf<ServedModel>,
    pulling: Mutex<()>,
}

/// What is known of a model before it is loaded.
#[derive(Clone)]
struct Known {
    choice: ModelChoice,
    card: ModelCard,
    n_bytes: u64,
}

impl Known {
    /// Reads headers.
    fn read(name: &str, choice: ModelChoice, loading: &Loading) -> anyhow::Result<Self> {
        let model = choice.open()?;
        let n_bytes = loading.needed_bytes(&model)?;
        Ok(Self { card: card(name, &choice, &model), choice, n_bytes })
    }
}

impl Stock {
    /// Knows these models; none is loaded yet.
    ///
    /// # Errors
    /// Broken files, two models of one name, and one that the budget can never hold.
    pub(crate) fn new(
        named: Vec<(String, ModelChoice)>,
        loading: Loading,
        options: StockOptions,
    ) -> anyhow::Result<Arc<Self>> {
        let mut known: Vec<Known> = Vec::new();
        for (name, choice) in named {
            anyhow::ensure!(
                known.iter().all(|known| known.card.name != name),
                "two models are called `{name}`\nhint: NAME=MODEL gives one another name"
            );
            let one = Known::read(&name, choice.clone(), &loading);
            let one = one.with_context(|| format!("serving `{}`", choice.name()))?;
            anyhow::ensure!(
                one.n_bytes <= options.max_bytes,
                "`{name}` takes {} bytes, and all models together may take {}\nhint: --ctx and --parallel make it smaller, --memory raises the budget",
                one.n_bytes,
                options.max_bytes
            );
            known.push(one);
        }
        let stock = Arc::new(Self {
            loading,
            shelf: Shelf::new(options.max_bytes),
            options,
            named: known,
            overlays: Mutex::default(),
            seen: Mutex::default(),
            pulling: Mutex::default(),
        });
        let weak = Arc::downgrade(&stock);
        std::thread::Builder::new().name("sweep".to_owned()).spawn(move || sweep(&weak))?;
        Ok(stock)
    }

    /// Loads the named models, as many as fit together; the names of those that did not.
    ///
    /// # Errors
    /// One that cannot be loaded.
    pub(crate) fn load_named(&self) -> anyhow::Result<Vec<String>> {
        let (mut sum, mut later) = (0_u64, Vec::new());
        for known in &self.named {
            let name = &known.card.name;
            if sum + known.n_bytes > self.options.max_bytes {
                later.push(name.clone());
                continue;
            }
            sum += known.n_bytes;
            self.get(known, self.options.time_to_live).map_err(|error| match error {
                ShelfError::Load(error) => error.context(format!("serving `{}`", known.choice.name())),
                other => anyhow::anyhow!("serving `{}`: {other}", known.choice.name()),
            })?;
        }
        Ok(later)
    }

    /// Serves an adapter from now on; it is loaded to see that it fits.
    ///
    /// # Errors
    /// A name that is taken, no such model, and files that do not fit it.
    pub(crate) fn add_overlay(&self, adapter: NewAdapter) -> Result<(), CatalogError> {
        let NewAdapter { name, path, base, strength } = adapter;
        let fail = |why: String| Err(CatalogError::Adapter { name: name.clone(), why });
        let Some(base) = base.or_else(|| Some(self.named.first()?.card.name.clone())) else {
            return fail("there is no model that it could be for".to_owned());
        };
        let Some(known) = self.find(&base) else {
            return fail(format!("there is no model `{base}`"));
        };
        if self.find(&name).is_some() || self.overlay(&name).is_some() {
            return fail("a model of this name is served already".to_owned());
        }
        let overlay = Overlay { name: name.clone(), path, strength, base };
        let model =
            self.get(&known, self.options.time_to_live).map_err(|error| refused(&known.card.name, error))?;
        if let Err(error) = overlays::open(&overlay, &model, &known.choice) {
            return fail(format!("{error:#}"));
        }
        self.lock_overlays().push(overlay);
        Ok(())
    }

    fn overlay(&self, name: &str) -> Option<Overlay> {
        self.lock_overlays().iter().find(|overlay| overlay.name == name).cloned()
    }

    fn lock_overlays(&self) -> std::sync::MutexGuard<'_, Vec<Overlay>> {
        self.overlays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn may_change_adapters(&self) -> Result<(), CatalogError> {
        match self.options.allows_adapters {
            true => Ok(()),
            false => Err(CatalogError::Forbidden {
                why: "this server loads no adapters: it was started without --allow-adapters".to_owned(),
            }),
        }
    }

    fn get(
        &self,
        known: &Known,
        time_to_live: Option<Duration>,
    ) -> Result<Arc<ServedModel>, ShelfError<anyhow::Error>> {
        let name = &known.card.name;
        let wanted = Wanted { name, n_bytes: known.n_bytes, time_to_live };
        self.shelf.get(wanted, Instant::now(), || open(name, &known.choice, &self.loading))
    }

    /// All that can be named: those of the command line, then those of the home whose names are free.
    fn all(&self) -> Vec<Known> {
        let mut all = self.named.clone();
        for (name, path) in self.at_home() {
            if all.iter().all(|known| known.card.name != name) {
                // What cannot be read is no model; `wootz list` says why.
                all.extend(self.look_at(&name, &path));
            }
        }
        all
    }

    fn find(&self, name: &str) -> Option<Known> {
        let named = self.named.iter().find(|known| known.card.name == name).cloned();
        named.or_else(|| {
            let (name, path) = self.at_home().into_iter().find(|(own, _)| own == name)?;
            self.look_at(&name, &path)
        })
    }

    fn at_home(&self) -> Vec<(String, PathBuf)> {
        let models = self.options.places.as_ref().map(Places::list).unwrap_or_default();
        // A file of a repository that holds no other is called as the repository is.
        let repo = |model: &wootz_remote::LocalModel| model.name.split(':').nth(1).map(str::to_owned);
        let called = |model: &wootz_remote::LocalModel| {
            let name = match (model.name.strip_prefix("hf:"), repo(model)) {
                (Some(_), Some(own))
                    if models.iter().filter(|m| repo(m).as_ref() == Some(&own)).count() == 1 =>
                {
                    own
                }
                (Some(name), _) => name.to_owned(),
                (None, _) => model.name.strip_suffix(".gguf").unwrap_or(&model.name).to_owned(),
            };
            (name, model.path())
        };
        models.iter().map(called).collect()
    }

    /// What a model's headers say, read again only where its files changed.
    fn look_at(&self, name: &str, path: &Path) -> Option<Known> {
        let changed = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.get(path) {
            Some((then, known)) if *then == changed && known.card.name == name => Some(known.clone()),
            _ => {
                let known = Known::read(name, ModelChoice::Path(path.to_owned()), &self.loading).ok()?;
                seen.insert(path.to_owned(), (changed, known.clone()));
                Some(known)
            }
        }
    }
}

impl Catalog for Stock {
    fn list(&self) -> Vec<ModelCard> {
        let here = self.shelf.list();
        let is_loaded = |name: &str| here.iter().any(|shelved| shelved.name == name);
        let card = |known: Known| ModelCard { is_loaded: is_loaded(&known.card.name), ..known.card };
        let models: Vec<ModelCard> = self.all().into_iter().map(card).collect();
        let loaded = self.shelf.loaded();
        let over = |overlay: &Overlay| {
            let base = models.iter().find(|card| card.name == overlay.base)?;
            let here = loaded.iter().find(|(shelved, _)| shelved.name == overlay.base);
            let is_loaded = here.is_some_and(|(_, model)| Base::has(model, &overlay.name));
            Some(overlays::card(overlay, base, is_loaded))
        };
        let adapted: Vec<ModelCard> = self.lock_overlays().iter().filter_map(over).collect();
        models.into_iter().chain(adapted).collect()
    }

    fn open(&self, name: &str, stay: Stay) -> Result<Arc<ServedModel>, CatalogError> {
        if let Some(overlay) = self.overlay(name) {
            let base = self.open(&overlay.base, stay)?;
            let choice = self.find(&overlay.base).map(|known| known.choice);
            let opened = choice
                .context("its model is gone")
                .and_then(|choice| overlays::open(&overlay, &base, &choice));
            let opened = opened
                .map_err(|error| CatalogError::Failed { name: name.to_owned(), why: format!("{error:#}") });
            return Ok(Arc::new(opened?));
        }
        let known = self.find(name).ok_or_else(|| CatalogError::NotFound {
            name: name.to_owned(),
            known: self.list().into_iter().map(|card| card.name).collect(),
        })?;
        let time_to_live = match stay {
            Stay::Usual => self.options.time_to_live,
            Stay::For(time) => Some(time),
            Stay::ForEver => None,
        };
        self.get(&known, time_to_live).map_err(|error| refused(name, error))
    }

    fn load_adapter(&self, adapter: NewAdapter) -> Result<(), CatalogError> {
        self.may_change_adapters()?;
        self.add_overlay(adapter)
    }

    fn unload_adapter(&self, name: &str) -> Result<(), CatalogError> {
        self.may_change_adapters()?;
        let mut all = self.lock_overlays();
        let Some(at) = all.iter().position(|overlay| overlay.name == name) else {
            let known = all.iter().map(|overlay| overlay.name.clone()).collect();
            return Err(CatalogError::NotFound { name: name.to_owned(), known });
        };
        let overlay = all.remove(at);
        drop(all);
        for (_, model) in self.shelf.loaded().iter().filter(|(shelved, _)| shelved.name == overlay.base) {
            Base::forget(model, name);
        }
        Ok(())
    }

    fn loaded(&self) -> Vec<Loaded> {
        let (now, clock) = (Instant::now(), SystemTime::now());
        let shown = self.shelf.loaded().into_iter().map(|(shelved, model)| Loaded {
            model,
            expires: shelved.expires.map(|at| clock + at.saturating_duration_since(now)),
            n_bytes: shelved.n_bytes,
        });
        shown.collect()
    }

    fn put_away(&self, name: &str) -> bool {
        self.shelf.remove(name)
    }

    fn pull(&self, name: &str, tell: &(dyn Fn(PullProgress) + Sync)) -> Result<(), CatalogError> {
        let forbidden = |why: &str| CatalogError::Forbidden { why: why.to_owned() };
        let Some((hub, places)) = &self.options.hub else {
            return Err(forbidden("this server fetches no models: it was started without --allow-pull"));
        };
        let failed = |error: wootz_remote::Error| match error {
            wootz_remote::Error::Offline { .. } => forbidden(&error.to_string()),
            error => CatalogError::Failed {
                name: name.to_owned(),
                why: format!("{:#}", anyhow::Error::from(error)),
            },
        };
        let model = ModelName::parse(name).map_err(failed)?;
        let _only_one = match self.pulling.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let why = "another model is being fetched".to_owned();
                return Err(CatalogError::Busy { name: name.to_owned(), why });
            }
        };
        let request = PullRequest { folder: places.folder_of(&model), name: model, include: Vec::new() };
        let watch = |path: &RepoPath, event: Event| {
            if let Event::Progress { done_bytes, total_bytes } = event {
                let total_bytes = total_bytes.unwrap_or(done_bytes);
                tell(PullProgress { file: path.to_string(), total_bytes, done_bytes });
            }
        };
        let (listing, files) = hub.plan(&request).map_err(failed)?;
        check_space(&files, &request)
            .map_err(|error| CatalogError::Failed { name: name.to_owned(), why: format!("{error:#}") })?;
        hub.fetch_all(&listing, &files, &request, &watch).map_err(failed)?;
        Ok(())
    }
}

/// Why the shelf does not give a model.
fn refused(name: &str, error: ShelfError<anyhow::Error>) -> CatalogError {
    let name = name.to_owned();
    match error {
        ShelfError::Busy { .. } => CatalogError::Busy { name, why: error.to_string() },
        ShelfError::TooLarge { .. } => CatalogError::Failed { name, why: error.to_string() },
        ShelfError::Load(error) => CatalogError::Failed { name, why: format!("{error:#}") },
    }
}

/// Puts models away whose time is over, as long as there is a stock.
fn sweep(stock: &Weak<Stock>) {
    loop {
        std::thread::sleep(SWEEP);
        let Some(stock) = stock.upgrade() else { return };
        stock.shelf.sweep(Instant::now());
    }
}
