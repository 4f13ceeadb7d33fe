/* What a compiled step has to know about its tensors, read at every step through torch's public
   interface. Nothing is remembered from one step to the next.

   Python holds the tensors while this runs, and the interpreter's lock is held, so that nobody else
   changes them. The loop over the numbers runs later and without the lock; for it, each tensor's
   memory is held here until `release`. */

#include <ATen/core/Tensor.h>
#include <c10/core/Storage.h>
#include <c10/core/TensorImpl.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

using c10::DispatchKeySet;
using c10::TensorImpl;

namespace {

/* A parameter's code: 0 if the plain step has to take it, else that of its dtype in _native.py. */
using Code = uint8_t;

c10::ScalarType scalar_type(const TensorImpl &x) {
    auto dtype = x.dtype(); /* a copy: torch 2.3 asks for one that is not const */
    return dtype.toScalarType();
}

Code code_of(const TensorImpl &x) {
    switch (scalar_type(x)) {
        case c10::ScalarType::Float: return 1;
        case c10::ScalarType::Double: return 2;
        case c10::ScalarType::Half: return 3;
        case c10::ScalarType::BFloat16: return 4;
        default: return 0;
    }
}

/* Where tensors are: HOST, or the index of a CUDA device. */
using Place = int64_t;
constexpr Place HOST = -1;

bool is_at(const TensorImpl &x, Place place) {
    const c10::Device device = x.device();
    return place == HOST ? device.is_cpu() : device.is_cuda() && device.index() == place;
}

/* Whether x has strides and memory in that place. */
bool in_memory(const TensorImpl &x, Place place) {
    return x.has_storage() && !x.has_symbolic_sizes_strides() && is_at(x, place) &&
           x.storage().unsafeGetStorageImpl() != nullptr;
}

/* How many elements x spans in memory, gaps included. */
int64_t extent(const TensorImpl &x) {
    int64_t last = 0;
    for (int64_t d = 0; d < x.dim(); d++) {
        if (x.sizes()[d] == 0) return 0;
        last += (x.sizes()[d] - 1) * x.strides()[d];
    }
    return last + 1;
}

/* Whether x is an ordinary dense tensor there, contiguous and inside of its memory. Sparse, negated,
   conjugate, quantized, wrapped and transformed tensors have other keys. */
bool ordinary(TensorImpl &x, Place place) {
    static const auto neutral =
        c10::autograd_dispatch_keyset_with_ADInplaceOrView | c10::autocast_dispatch_keyset;
    const auto key = place == HOST ? c10::DispatchKey::CPU : c10::DispatchKey::CUDA;
    return x.key_set() - neutral == DispatchKeySet(key) && in_memory(x, place) &&
           !x.is_inference() && x.is_contiguous() &&
           x.storage().nbytes() >= (size_t)(x.storage_offset() + x.numel()) * x.itemsize();
}

bool is_step(const TensorImpl &x) {
    return scalar_type(x) == c10::ScalarType::Float && x.numel() == 1;
}

struct Span {
    uintptr_t start, end;
    int64_t parameter;
    bool written;
};

/* Parameters that share memory which one of them writes are left to the plain step, which takes
   them one after the other. */
void leave_shared(std::vector<Span> &spans, Code *code) {
    std::sort(spans.begin(), spans.end(),
              [](const Span &a, const Span &b) { return a.start < b.start; });
    std::vector<const Span *> open;
    uintptr_t last = 0;
    for (const Span &span : spans) {
        if (span.start >= last) {
            open.clear();
        } else {
            for (const Span *other : open)
                if (other->end > span.start && (other->written || span.written))
                    code[other->parameter] = code[span.parameter] = 0;
        }
        open.push_back(&span);
        last = std::max(last, span.end);
    }
}

}  // namespace

extern "C" {

/* Bit c is set if a parameter that is there has the dtype of code c, and a gradient. */
int64_t dtypes(int64_t count, Place place, TensorImpl *const *theta) try {
    int64_t found = 0;
    for (int64_t k = 0; k < count; k++)
        if (is_at(*theta[k], place) && theta[k]->grad().use_count())
            found |= int64_t{1} << code_of(*theta[k]);
    return found & ~int64_t{1};
} catch (...) {
    return 0;
}

/* Decides which of `count` parameters are taken, and holds their memory until `release`. All of
   their tensors have to be in one place, but for the steps, which are in the host's memory.
   tensor[j * count + k] is, of parameter k, θ for j = 0, then its accumulators and, with `counts`,
   its step; pointer and held have its gradient in between, at j = 1.

   In: code, 1 for what may be taken; `kernels`, bit c for a dtype of code c that has a kernel;
   `all`, take all or none.
   Out: code, 0 for what is not taken; elements[k]; pointer; held.
   Returns how many have a gradient and are not taken. Autograd is told that the others change. */
int64_t acquire(int64_t count, int64_t columns, int64_t counts, int64_t kernels, int64_t all,
                Place place, TensorImpl *const *tensor, Code *code, int64_t *elements, void **pointer,
                c10::StorageImpl **held) try {
    const auto at = [&](int64_t j, int64_t k) {
        return j == 1 ? tensor[k]->grad().unsafeGetTensorImpl()
                      : tensor[(j ? j - 1 : 0) * count + k];
    };
    int64_t without_grad = 0;
    std::vector<Span> spans;
    spans.reserve(count * columns);
    for (int64_t k = 0; k < count; k++) {
        if (!tensor[k]->grad().use_count()) { /* none, or one that is just being freed */
            without_grad++;
            code[k] = 0;
            continue;
        }
        const TensorImpl &theta = *tensor[k];
        const Code wanted = code_of(theta);
        code[k] = code[k] && kernels >> wanted & 1 ? wanted : 0;
        for (int64_t j = 0; j < columns; j++) {
            TensorImpl &x = *at(j, k);
            const bool step = counts && j == columns - 1;
            const Place there = step ? HOST : place;
            const bool fits = code[k] && ordinary(x, there) &&
                              (step ? is_step(x)
                                    : code_of(x) == wanted && x.sizes() == theta.sizes());
            if (!fits) code[k] = 0;
            if (!in_memory(x, there)) continue;
            const void *data = j == 1 || !fits ? x.data() : x.mutable_data();
            const auto start = reinterpret_cast<uintptr_t>(data);
            pointer[j * count + k] = const_cast<void *>(data);
            if (start % x.itemsize()) code[k] = 0; /* as in a view of a file's bytes */
            const int64_t bytes = extent(x) * static_cast<int64_t>(x.itemsize());
            if (bytes && data) spans.push_back({start, start + bytes, k, j != 1});
        }
        if (code[k]) elements[k] = theta.numel();
    }
    leave_shared(spans, code);
    const int64_t left = std::count(code, code + count, 0) - without_grad;
    if (all && left) return left;
    for (int64_t k = 0; k < count; k++) {
        if (!code[k]) continue;
        for (int64_t j = 0; j < columns; j++) {
            TensorImpl *x = at(j, k);
            held[j * count + k] = c10::Storage(x->storage()).unsafeReleaseStorageImpl();
            if (j != 1) x->bump_version();
        }
    }
    return left;
} catch (...) { /* the plain step will raise the error */
    std::fill(code, code + count, 0);
    return count;
}

/* The parameters of one dtype, as its kernel takes them: offset[k] elements come before the k-th.
   Returns how many they are. */
int64_t take(int64_t count, int64_t columns, int64_t wanted, const Code *code,
             const int64_t *elements, void *const *pointer, int64_t *offset, void **taken) {
    const int64_t some = std::count(code, code + count, wanted);
    int64_t next = 0;
    *offset = 0;
    for (int64_t k = 0; k < count; k++) {
        if (code[k] != wanted) continue;
        for (int64_t j = 0; j < columns; j++) taken[j * some + next] = pointer[j * count + k];
        offset[next + 1] = offset[next] + elements[k];
        next++;
    }
    return some;
}

/* Writes the numbers that steps will have when `advance` has counted them. */
void next_steps(int64_t count, const float *const *step, double *t) {
    for (int64_t k = 0; k < count; k++) t[k] = static_cast<float>(*step[k] + 1);
}

/* Counts steps. */
void advance(int64_t count, float *const *step) {
    for (int64_t k = 0; k < count; k++) *step[k] += 1;
}

/* The table that a kernel of a GPU reads (see _triton.py): the first block of each tensor, and the
   number of all; the elements of each; where in the table its constants are; all addresses; the
   constants. row[k]: which of the rows of `width` constants are those of tensor k.
   Returns the number of blocks, negative if an address is no multiple of 16 bytes. */
int64_t lay_out(int64_t count, int64_t columns, int64_t block, int64_t width, int64_t rows,
                const int64_t *offset, void *const *pointer, const int64_t *row,
                const double *constant, int64_t *table) {
    int64_t *const elements = table + count + 1, *const place = elements + count;
    int64_t *const address = place + count, *const constants = address + columns * count;
    int64_t blocks = 0;
    for (int64_t k = 0; k < count; k++) {
        table[k] = blocks;
        elements[k] = offset[k + 1] - offset[k];
        place[k] = constants - table + width * row[k];
        blocks += (elements[k] + block - 1) / block;
    }
    table[count] = blocks;
    uintptr_t ends = 0;
    for (int64_t i = 0; i < columns * count; i++) {
        const auto there = reinterpret_cast<uintptr_t>(pointer[i]);
        address[i] = static_cast<int64_t>(there);
        ends |= there;
    }
    if (width) std::memcpy(constants, constant, sizeof *constant * width * rows);
    return ends % 16 ? -blocks : blocks;
}

/* As `acquire`, for one parameter with a gradient of rows. tensor: θ, the rows of the gradient, the
   accumulators, with `counts` the step, and last the index of each row.
   Out: pointer; held; shape: how many rows the gradient has, how many θ has, numbers in a row.
   Returns the code of the dtype, or 0 for one that the plain step has to take. */
int64_t acquire_rows(int64_t columns, int64_t counts, TensorImpl *const *tensor, int64_t *shape,
                     void **pointer, c10::StorageImpl **held) try {
    const TensorImpl &theta = *tensor[0], &values = *tensor[1];
    Code code = code_of(theta);
    std::vector<Span> spans;
    if (!theta.numel()) return 0;
    for (int64_t j = 0; j < columns; j++) {
        TensorImpl &x = *tensor[j];
        if (!code || !ordinary(x, HOST)) return 0;
        const auto index = j == columns - 1, step = counts && j == columns - 2;
        if (index) {
            if (scalar_type(x) != c10::ScalarType::Long || x.dim() != 2 || x.sizes()[0] != 1 ||
                x.sizes()[1] != values.sizes()[0])
                return 0;
        } else if (step) {
            if (!is_step(x)) return 0;
        } else {
            if (code_of(x) != code || x.dim() == 0 || x.dim() != theta.dim()) return 0;
            if (x.sizes().slice(1) != theta.sizes().slice(1)) return 0;
            if (j != 1 && x.sizes()[0] != theta.sizes()[0]) return 0;
        }
        const bool written = j != 1 && !index;
        const void *data = written ? x.mutable_data() : x.data();
        const auto start = reinterpret_cast<uintptr_t>(data);
        if (start % x.itemsize()) return 0;
        pointer[j] = const_cast<void *>(data);
        const int64_t bytes = x.numel() * static_cast<int64_t>(x.itemsize());
        if (bytes && data) spans.push_back({start, start + bytes, 0, written});
    }
    leave_shared(spans, &code);
    if (!code) return 0;
    shape[0] = values.sizes()[0];
    shape[1] = theta.sizes()[0];
    shape[2] = 1;
    for (const int64_t size : theta.sizes().slice(1)) shape[2] *= size;
    for (int64_t j = 0; j < columns; j++) {
        held[j] = c10::Storage(tensor[j]->storage()).unsafeReleaseStorageImpl();
        if (j != 1 && j != columns - 1) tensor[j]->bump_version();
    }
    return code;
} catch (...) { /* the plain step will raise the error */
    return 0;
}

/* Lets go of the memory that `acquire` and `acquire_rows` hold. */
void release(int64_t count, c10::StorageImpl **held) {
    for (int64_t k = 0; k < count; k++)
        if (held[k]) c10::Storage(c10::intrusive_ptr<c10::StorageImpl>::reclaim(held[k]));
}
}
