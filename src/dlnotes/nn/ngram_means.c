/* The mean of the vectors of a document's words and n-grams, and its gradient, document by document.

   `real` and the constants are defined by what is put before this text, see ngram_means.py. */

enum { AHEAD = 8 }; /* vectors that are fetched from memory before their turn */

/* The ids of a document's words and n-grams, see `ngram_ids`. `h` has room for `t` numbers.
   Returns how many there are, or -1 if one is not an index of `rows` rows. */
static int64_t ids_of(int64_t t, int64_t longest, int64_t first, int64_t buckets, int64_t rows,
                      const int64_t *token, int64_t *h, int64_t *id) {
    int64_t n = 0;
    for (int64_t k = 0; k < t; k++) {
        h[k] = token[k];
        if (token[k] < 0 || token[k] >= rows) return -1;
        if (token[k] != PAD) id[n++] = token[k];
    }
    for (int64_t words = 2; words <= longest && words <= t; words++) {
        int64_t run = 0; /* words up to here without padding between them */
        for (int64_t k = 0; k < t; k++) {
            run = token[k] == PAD ? 0 : run + 1;
            const int64_t begin = k - words + 1;
            if (begin < 0) continue;
            h[begin] = (int64_t)((uint64_t)h[begin] * MULTIPLIER + (uint64_t)token[k]);
            if (run < words) continue;
            const uint64_t folded = (uint64_t)(h[begin] ^ h[begin] >> 32) * MULTIPLIER;
            const int64_t found = (int64_t)((folded >> 32) * (uint64_t)buckets >> 32) + first;
            if (found < 0 || found >= rows) return -1;
            id[n++] = found;
        }
    }
    return n;
}

/* token: b × t. Out: mean, b × e; id, b × width, of which the first count[i] are document i's.
   Returns 0; or 1 if an id is not an index, or memory is lacking. */
int64_t forward(int64_t b, int64_t t, int64_t e, int64_t width, int64_t rows, int64_t longest,
                int64_t first, int64_t buckets, const int64_t *token, const real *vector,
                real *mean, int64_t *id, int64_t *count, int64_t threads) {
    int failed = 0;
    (void)threads;
#pragma omp parallel num_threads(threads) if (threads > 1) reduction(| : failed)
    {
        int64_t *const h = malloc((size_t)(t ? t : 1) * sizeof *h);
        failed |= !h;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < b; i++) {
            if (failed) continue;
            int64_t *const own = id + i * width;
            real *const x = mean + i * e;
            const int64_t n = ids_of(t, longest, first, buckets, rows, token + i * t, h, own);
            failed |= n < 0;
            count[i] = n;
            for (int64_t c = 0; c < e; c++) x[c] = 0;
            for (int64_t k = 0; k < n; k++) {
                const real *const v = vector + own[k] * e;
                if (k + AHEAD < n) {
                    const real *const later = vector + own[k + AHEAD] * e;
                    __builtin_prefetch(later);
                    __builtin_prefetch(later + e - 1);
                }
                for (int64_t c = 0; c < e; c++) x[c] += v[c];
            }
            for (int64_t c = 0; c < e; c++) x[c] /= (real)(n > 1 ? n : 1);
        }
        free(h);
    }
    return failed;
}

/* g: b × e, the gradient of the means. Out: the gradient of the vectors as rows, with the id and
   the values of each, those of all documents one after another. */
void backward(int64_t b, int64_t e, int64_t width, const int64_t *id, const int64_t *count,
              const int64_t *begin, const real *g, int64_t *index, real *value, int64_t threads) {
    (void)threads;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < b; i++) {
        const int64_t n = count[i];
        if (!n) continue; /* without any ids there may be no memory for them */
        memcpy(index + begin[i], id + i * width, (size_t)n * sizeof *id);
        real *const first = value + begin[i] * e;
        for (int64_t c = 0; c < e; c++) first[c] = g[i * e + c] / (real)n;
        for (int64_t k = 1; k < n; k++) memcpy(first + k * e, first, (size_t)e * sizeof *first);
    }
}
