//! Which CPU each end runs on.
//!
//! Always: the near end of every trial runs on the first CPU of a pair and the far end on the second, whatever
//! the peer; the two differ. A server that belongs to neither end runs where the process was allowed to, or in the far
//! end's place where there is none.

use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

use crate::error::CompareError;

/// The two CPUs of a run: first the near end's (which publishes), then the far end's (which consumes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CpuPair {
    /// The near end's CPU.
    pub(crate) near: usize,
    /// The far end's CPU.
    pub(crate) far: usize,
}

impl CpuPair {
    /// Takes the two CPUs asked for, or the first two that this process may use.
    pub(crate) fn choose(asked: Option<&[usize]>) -> Result<Self, CompareError> {
        let mask = sched_getaffinity(None).map_err(CompareError::system("read the CPU affinity mask"))?;
        let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| mask.is_set(*cpu)).collect();
        match asked.unwrap_or(&allowed) {
            [near, far, rest @ ..] if asked.is_none() || rest.is_empty() => {
                if near == far {
                    return Err(CompareError::Cpus(format!("CPU {near} is named twice")));
                }
                if let Some(cpu) = [near, far].into_iter().find(|cpu| !allowed.contains(cpu)) {
                    return Err(CompareError::Cpus(format!(
                        "CPU {cpu} is not among the allowed {allowed:?}"
                    )));
                }
                Ok(Self { near: *near, far: *far })
            }
            cpus => Err(CompareError::Cpus(format!("two CPUs are needed, not {}", cpus.len()))),
        }
    }
}

/// Where the process was allowed to run before it was bound.
static ALLOWED: OnceLock<CpuSet> = OnceLock::new();

/// The CPUs that this process was allowed to use when it started.
pub(crate) fn allowed() -> Result<CpuSet, CompareError> {
    let now = sched_getaffinity(None).map_err(CompareError::system("read the CPU affinity mask"))?;
    Ok(*ALLOWED.get_or_init(|| now))
}

/// Binds the calling thread to one CPU.
pub(crate) fn pin_current_thread(cpu: usize) -> Result<(), CompareError> {
    allowed()?;
    sched_setaffinity(None, &only(cpu)).map_err(CompareError::system(format!("bind a thread to CPU {cpu}")))
}

/// One CPU alone.
pub(crate) fn only(cpu: usize) -> CpuSet {
    let mut mask = CpuSet::new();
    mask.set(cpu);
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cpu_twice_is_refused() {
        assert!(matches!(CpuPair::choose(Some(&[0, 0])), Err(CompareError::Cpus(_))));
    }

    #[test]
    fn three_cpus_are_refused() {
        assert!(matches!(CpuPair::choose(Some(&[0, 1, 2])), Err(CompareError::Cpus(_))));
    }
}
