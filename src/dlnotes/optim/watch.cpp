/* Whether the tensors of a step are still what they were when they were looked at closely, and where
   they are. Python would be asked a dozen questions for each tensor; the answers lie side by side in
   torch's own object for it. */

#include <ATen/core/TensorBase.h>

using c10::TensorImpl;

extern "C" {

/* Of Python's interface, which extension modules find in the running interpreter. */
PyObject *PyList_GetItem(PyObject *, intptr_t);
PyObject *PyDict_GetItem(PyObject *, PyObject *);
int PyDict_Next(PyObject *, intptr_t *, PyObject **, PyObject **);

/* Parameters of one dtype in one group, as the plan saw them. */
struct Watch {
    int64_t inside;              /* bytes from the start of a Python tensor to its TensorImpl * */
    PyObject *example;           /* an ordinary tensor of that dtype */
    int64_t params, accumulators;
    int64_t entries;             /* in the optimizer's state, of all parameters */
    const int64_t *place;        /* where in the group's list each parameter is */
    PyObject *const *known;      /* all θ, their states, each accumulator, the steps */
    PyObject *const *name;       /* of the accumulators, then "step" or null */
    PyObject *const *entry;      /* of the optimizer's state */
    void **pointer;              /* out: where θ, g, each accumulator and the steps are */
};

static TensorImpl *tensor(const Watch *w, PyObject *object) {
    return *reinterpret_cast<TensorImpl **>(reinterpret_cast<char *>(object) + w->inside);
}

static const at::TensorBase &gradient(const TensorImpl *theta) {
    return reinterpret_cast<const at::TensorBase &>(theta->grad());
}

/* Whether x is a dense tensor in memory of this machine, as the kernel reads and writes it: the keys
   say so, for any other kind of tensor (sparse, on a device, negated, a wrapper …) has others. */
static bool fits(const TensorImpl *x, const TensorImpl *example, c10::IntArrayRef sizes) {
    return x->key_set() == example->key_set() && x->dtype() == example->dtype() &&
           x->is_contiguous() && x->sizes() == sizes;
}

static bool locate(TensorImpl *x, void **pointer) {
    *pointer = x->mutable_data();
    return *pointer || x->numel() == 0;
}

static bool seen(const Watch *w, PyObject *params, PyObject *state) {
    const int64_t n = w->params;
    const TensorImpl *example = tensor(w, w->example);
    for (int64_t k = 0; k < n; k++) {
        PyObject *object = PyList_GetItem(params, w->place[k]);
        if (object != w->known[k]) return false;
        TensorImpl *theta = tensor(w, object), *g = gradient(theta).unsafeGetTensorImpl();
        void *before = w->pointer[k]; /* where it has moved to, another parameter may be */
        if (!fits(theta, example, theta->sizes()) || !fits(g, example, theta->sizes()) ||
            !locate(theta, w->pointer + k) || !locate(g, w->pointer + n + k) ||
            (before && before != w->pointer[k]))
            return false;
    }
    if (!w->name[0]) return true;
    PyObject *key, *value;
    intptr_t position = 0;
    for (int64_t k = 0; k < w->entries; k++)
        if (!PyDict_Next(state, &position, &key, &value) || value != w->entry[k]) return false;
    if (PyDict_Next(state, &position, &key, &value)) return false;
    for (int64_t j = 0; w->name[j]; j++)
        for (int64_t k = 0; k < n; k++) {
            PyObject *object = PyDict_GetItem(w->known[n + k], w->name[j]);
            if (!object || object != w->known[(2 + j) * n + k]) return false;
            TensorImpl *x = tensor(w, object);
            const bool step = j == w->accumulators;
            if (step ? x->key_set() != example->key_set() || !x->dtype().Match<float>() ||
                           x->numel() != 1
                     : !fits(x, example, tensor(w, w->known[k])->sizes()))
                return false;
            if (!locate(x, w->pointer + (2 + j) * n + k)) return false;
        }
    return true;
}

/* Fills w->pointer and tells autograd that the parameters change. False: look closely again. */
int look(const Watch *w, PyObject *params, PyObject *state) try {
    if (!seen(w, params, state)) return false;
    for (int64_t k = 0; k < w->params; k++) tensor(w, w->known[k])->bump_version();
    return true;
} catch (...) { /* memory that was never allocated, for one: the plain step says what it is */
    return false;
}

/* Whether parameters that had no gradient still have none. */
int idle(const Watch *w, PyObject *params) {
    for (int64_t k = 0; k < w->params; k++) {
        PyObject *object = PyList_GetItem(params, w->place[k]);
        if (object != w->known[k] || gradient(tensor(w, object)).defined()) return false;
    }
    return true;
}
}
