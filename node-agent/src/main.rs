//! The program, a call of the library.

fn main() -> std::process::ExitCode {
    slurm_rollout_agent::main()
}
