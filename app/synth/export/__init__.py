"""Export of rows: formats of trainers, splits, mixtures and selection of subsets."""
