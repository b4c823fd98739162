//! How matrices are stored, where `quantization_config` says that it is not as plain numbers.
//!
//! Where:  called when a Hugging Face folder is opened, to change the table of names.
//! Source: the keys are transformers'.

use crate::Result;
use crate::hf::Hf;
use crate::names::{Part, TernaryScale};

/// How every layer's matrices are stored, or `None` for plain numbers.
pub(crate) fn matrices(hf: &Hf) -> Result<Option<Part>> {
    let Some(quantization) = hf.object("quantization_config") else { return Ok(None) };
    match (quantization.str("quant_method"), hf.str("model_type")) {
        (Some("bitnet"), Some("bitnet")) => bitnet(&quantization).map(Some),
        (method, _) => {
            let method = method.unwrap_or("a method without a name");
            Err(hf.error("quantization_config", "weights that are not quantized", method))
        }
    }
}

fn bitnet(quantization: &Hf) -> Result<Part> {
    quantization.require("use_rms_norm", false)?;
    if let Some(modules) = quantization.strings("modules_to_not_convert")
        && modules != ["lm_head"]
    {
        let (key, expected) = ("modules_to_not_convert", "null or the head alone");
        return Err(quantization.error(key, expected, &modules.join(", ")));
    }
    let class = quantization.str("linear_class").unwrap_or("bitlinear");
    match (class, quantization.str("quantization_mode").unwrap_or("offline")) {
        ("bitlinear", _) => Ok(Part::Ternary(TernaryScale::By)),
        ("autobitlinear", "offline") => Ok(Part::Ternary(TernaryScale::Times)),
        ("autobitlinear", "online") => Ok(Part::MadeTernary),
        ("autobitlinear", mode) => {
            Err(quantization.error("quantization_mode", "`offline` or `online`", mode))
        }
        (class, _) => Err(quantization.error("linear_class", "`bitlinear` or `autobitlinear`", class)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let hf = Hf::parse("config.json", text.as_bytes()).unwrap();
        let got = matrices(&hf).map_or_else(|error| error.to_string(), |part| format!("{part:?}"));
        assert!(got.contains(expected), "{text}: {got}");
    }

    #[test]
    fn a_method_is_honoured_or_refused_by_name() {
        check("{}", "None");
        check(r#"{"quantization_config": {"quant_method": "gptq"}}"#, "gptq");
        check(r#"{"model_type": "llama", "quantization_config": {"quant_method": "bitnet"}}"#, "bitnet");
        check(r#"{"model_type": "bitnet", "quantization_config": {"quant_method": "bitnet"}}"#, "By");
        let online = r#"{"model_type": "bitnet", "quantization_config": {"quant_method": "bitnet",
            "linear_class": "autobitlinear", "quantization_mode": "online"}}"#;
        check(online, "MadeTernary");
    }
}
