//! What every sampler implements, and the chain that a request's settings make of them.
//!
//! Where:  a [`Sampler`](super::Sampler) runs the chain once per token.
//! Idea:   a step changes logits or drops candidates and knows nothing of the others. A new sampler is a file with one
//!         `impl Step` and a line in [`chain`].
//! Elsewhere: what the settings mean ([`Sampling`]).

use wootz_text::{SamplerKind, Sampling, Search, TokenId};

use super::SamplerVocab;
use super::candidates::Candidates;
use super::dry::DryPenalty;
use super::min_p::MinP;
use super::mirostat::MirostatCut;
use super::penalties::OccurrencePenalties;
use super::rng::Rng;
use super::temperature::{DynamicTemperatureScale, TemperatureScale};
use super::top_k::TopK;
use super::top_n_sigma::TopNSigma;
use super::top_p::TopP;
use super::typical_p::TypicalP;
use super::xtc::XtcCut;

/// One step of a chain.
pub(super) trait Step: CloneStep + Send + Sync {
    /// Changes logits or drops candidates, but never the last one.
    fn apply(&mut self, candidates: &mut Candidates, rng: &mut Rng);

    /// A token joined the history: of the prompt, or chosen.
    fn accept(&mut self, _id: TokenId) {}

    /// A candidate with this logit was drawn after the whole chain.
    fn drew(&mut self, _logit: f32) {}
}

/// The steps that `sampling` asks for, in its order; those that would change nothing are left out.
pub(super) fn chain(sampling: &Sampling, vocab: &SamplerVocab) -> Vec<Box<dyn Step>> {
    let role = match (&sampling.search, &sampling.mirostat) {
        (Search::Sample, Some(_)) => Role::Feedback,
        (Search::Sample, None) if !sampling.is_greedy() => Role::Draw,
        _ => Role::Likeliest,
    };
    let kinds = sampling.order.iter().filter(|&&kind| role.has(kind));
    let mut steps: Vec<_> = kinds.filter_map(|&kind| step(kind, sampling, vocab)).collect();
    if let (Role::Feedback, Some(mirostat)) = (role, sampling.mirostat) {
        steps.push(Box::new(MirostatCut::new(mirostat, vocab.size)));
    }
    steps
}

/// What the chain is for, which decides which samplers act.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// Draw at random.
    Draw,
    /// Draw at random; mirostat replaces all truncation.
    Feedback,
    /// Greedy or a search: the likeliest after penalties; nothing is cut off, and no temperature changes the order.
    Likeliest,
}

impl Role {
    fn has(self, kind: SamplerKind) -> bool {
        match kind {
            SamplerKind::Penalties | SamplerKind::Dry => true,
            SamplerKind::Temperature => self != Self::Likeliest,
            SamplerKind::TopNSigma
            | SamplerKind::TopK
            | SamplerKind::TypicalP
            | SamplerKind::TopP
            | SamplerKind::MinP
            | SamplerKind::Xtc => self == Self::Draw,
        }
    }
}

fn step(kind: SamplerKind, sampling: &Sampling, vocab: &SamplerVocab) -> Option<Box<dyn Step>> {
    let s = sampling;
    match kind {
        SamplerKind::Penalties => {
            boxed((!s.penalties.is_off()).then(|| OccurrencePenalties::new(s.penalties)))
        }
        SamplerKind::Dry => {
            let dry = s.dry.as_ref().filter(|dry| dry.multiplier > 0.0);
            boxed(dry.map(|dry| DryPenalty::new(dry, vocab)))
        }
        SamplerKind::TopNSigma => boxed(s.top_n_sigma.map(TopNSigma)),
        SamplerKind::TopK => boxed(s.top_k.map(TopK)),
        SamplerKind::TypicalP => boxed((s.typical_p < 1.0).then_some(TypicalP(s.typical_p))),
        SamplerKind::TopP => boxed((s.top_p < 1.0).then_some(TopP(s.top_p))),
        SamplerKind::MinP => boxed((s.min_p > 0.0).then_some(MinP(s.min_p))),
        SamplerKind::Xtc => boxed(s.xtc.filter(|xtc| xtc.probability > 0.0).map(XtcCut)),
        SamplerKind::Temperature => match s.dynamic_temperature {
            Some(dynamic) => boxed(Some(DynamicTemperatureScale::new(s.temperature, dynamic))),
            None => boxed((s.temperature != 1.0).then_some(TemperatureScale(s.temperature))),
        },
    }
}

fn boxed(step: Option<impl Step + 'static>) -> Option<Box<dyn Step>> {
    step.map(|step| Box::new(step) as Box<dyn Step>)
}

/// Lets boxed steps be cloned, for which a step only has to be `Clone`.
pub(super) trait CloneStep {
    fn boxed_clone(&self) -> Box<dyn Step>;
}

impl<S: Step + Clone + 'static> CloneStep for S {
    fn boxed_clone(&self) -> Box<dyn Step> {
        Box::new(self.clone())
    }
}

impl Clone for Box<dyn Step> {
    fn clone(&self) -> Self {
        (**self).boxed_clone()
    }
}
