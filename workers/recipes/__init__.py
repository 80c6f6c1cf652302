"""Fine-tuning and scoring, each as a program that a worker starts as a process of its own."""
