"""The trainers of Sft: TRL in process, LLaMA-Factory as a process of its own environment."""
