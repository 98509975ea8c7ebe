// The kernels that CMakeLists.txt leaves out: each says that it takes nothing, as it would of a type
// that it does not know.
#include "iqk/iqk_config.h"

#ifdef IQK_IMPLEMENT
#include "iqk/fa/iqk_fa_templates.h"
#include "iqk/iqk_gemm_1bit.h"
#include "iqk/iqk_gemm_iqk_quants.h"
#include "iqk/iqk_gemm_iquants.h"
#include "iqk/iqk_gemm_ktquants.h"

#define ABSENT_ATTENTION(name) IQK_FA_CASE(name) { return false; }
ABSENT_ATTENTION(iqk_fa_96_96)
ABSENT_ATTENTION(iqk_fa_192_128)
ABSENT_ATTENTION(iqk_fa_192_192)
ABSENT_ATTENTION(iqk_fa_256_256)
ABSENT_ATTENTION(iqk_fa_320_256)
ABSENT_ATTENTION(iqk_fa_512_512)
ABSENT_ATTENTION(iqk_fa_576_512)

#define ABSENT_PRODUCT(name) \
    bool name(int, int, int, std::array<mul_mat_t, IQK_MAX_NY>&, mul_mat_t&) { return false; }
ABSENT_PRODUCT(iqk_set_kernels_1bit)
ABSENT_PRODUCT(iqk_set_kernels_iqk_quants)
ABSENT_PRODUCT(iqk_set_kernels_iquants)
ABSENT_PRODUCT(iqk_set_kernels_ktquants)

#define ABSENT_CONVERSION(name) \
    bool name(int, int, const void *, size_t, void *, int) { return false; }
ABSENT_CONVERSION(iqk_convert_1bit_q80_r8)
ABSENT_CONVERSION(iqk_convert_iqk_quants_q80_r8)
ABSENT_CONVERSION(iqk_convert_iquants_q80_r8)

bool iqk_dequantize_ktquants(int, int, const void *, size_t, void *, size_t, int) { return false; }
#endif
