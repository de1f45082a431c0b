// inlined.c - the other half of test_libmuon: the same steps with muon.h compiled into the program, by the products of gemm.h.
#define INLINED
#include "test_libmuon.c"
