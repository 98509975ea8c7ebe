/* What little of CUDA has to answer where there is none; see builder/environment/cputorch.py.
 *
 * torch asks how many devices there are, and is told: none. It compares classes of its own by the
 * names in their type_info (Itanium C++ ABI, 2.9.5). All else of CUDA ends the process if called.
 */

enum { NO_DEVICE = 100 }; /* cudaErrorNoDevice */

int cudaGetDeviceCount(int *count)
{
    *count = 0;
    return NO_DEVICE;
}

int cudaGetLastError(void)
{
    return NO_DEVICE;
}

/* c10d::get_gil_checker(): a reference to a pointer that torch's Python side sets at start. */
void **_ZN4c10d15get_gil_checkerEv(void)
{
    static void *checker;
    return &checker;
}

extern void *_ZTVN10__cxxabiv117__class_type_infoE[];

struct type_info {
    void **table;
    const char *name;
};

#define TYPE(name)                                  \
    extern const char _ZTS##name[];                 \
    const char _ZTS##name[] = #name;                \
    extern const struct type_info _ZTI##name;       \
    const struct type_info _ZTI##name = {_ZTVN10__cxxabiv117__class_type_infoE + 2, _ZTS##name};

TYPE(N4c10d16ProcessGroupNCCLE)
TYPE(N4c10d16ProcessGroupNCCL7OptionsE)

extern void *const _ZTVN5torch3jit10tensorexpr11CudaCodeGenE[32];
void *const _ZTVN5torch3jit10tensorexpr11CudaCodeGenE[32] = {0};
