"""Operations, memory and time of any module; needs torch alone."""
