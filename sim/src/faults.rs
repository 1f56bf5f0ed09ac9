//! Faults, and admins who act by hand.

/// Something that happens to a part of the cluster, or that an admin does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// An admin starts a rollout.
    Start(String),
    Pause(String),
    Resume(String),
    Stop(String),
    Approve(String, u32),
    Freeze,
    Thaw,
    AgentDies(usize),
    /// The node loses power and boots.
    PowerCut(usize),
    /// The node hangs until it is power-cycled.
    Hangs(usize),
    PowerCycle(usize),
    /// The next registrations of the node lack memory.
    LosesMemory(usize),
    HasMemory(usize),
    SlurmctldAway {
        ms: u64,
    },
    /// slurmctld restarts or fails over: programs that it runs die.
    SlurmctldRestarts {
        ms: u64,
    },
    ExecutorDies(usize),
    ExecutorStalls {
        executor: usize,
        ms: u64,
    },
    Drain(usize),
    Undrain(usize),
    /// `scontrol update state=down`.
    SetDown(usize),
    SetResume(usize),
    Reserve {
        node: usize,
        after_ms: u64,
        ms: u64,
        is_maintenance: bool,
    },
    SuspendJob,
    ResumeJobs,
    /// The epilog of a running job will hang for this long.
    HangEpilog {
        ms: u64,
    },
    RequeueJob,
    CancelJob,
    /// An admin requests a reboot of the node themselves.
    Reboot {
        node: usize,
        asap: bool,
        resume: bool,
    },
    CancelReboot(usize),
    PowerDown(usize),
    PowerUp(usize),
}
