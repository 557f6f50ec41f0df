//! Whether this CPU has the instructions that llama.cpp was compiled for.
//!
//! Asked before anything of ggml runs: without them the process would end with SIGILL and no reason.

/// Names of what is missing; empty when all is there. Runs no instruction that could be missing.
pub fn missing() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let found = [
            ("AVX2", std::is_x86_feature_detected!("avx2")),
            ("FMA", std::is_x86_feature_detected!("fma")),
            ("F16C", std::is_x86_feature_detected!("f16c")),
            ("BMI2", std::is_x86_feature_detected!("bmi2")),
        ];
        absent(&found)
    }
    #[cfg(not(target_arch = "x86_64"))]
    absent(&[])
}

/// The sentence for people; `None` when nothing is missing.
pub fn complaint(missing: &[&str]) -> Option<String> {
    if missing.is_empty() {
        return None;
    }
    Some(format!(
        "this CPU lacks {}, which this build of llama.cpp needs; build lollmsd on this machine with \
         GGML_AVX2=OFF GGML_FMA=OFF GGML_F16C=OFF GGML_BMI2=OFF in the environment",
        missing.join(", ")
    ))
}

fn absent(found: &[(&'static str, bool)]) -> Vec<&'static str> {
    found.iter().filter(|(_, there)| !there).map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(absent(&[("AVX2", true), ("FMA", false), ("BMI2", false)]), ["FMA", "BMI2"]);
        assert!(complaint(&["FMA", "BMI2"]).unwrap().contains("lacks FMA, BMI2"));
        assert_eq!(complaint(&[]), None);
    }
}
