"""Operations with kernels of their own: FIR resampling and fused bias with activation."""
