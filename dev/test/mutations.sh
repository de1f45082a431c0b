#!/bin/sh
# Do the tests notice? Breaks the model in one place at a time (a sign, a factor, a forgotten term), builds test_gpt and
# test_attn in a copy of the tree and expects their numerical tests to fail. Takes some minutes; run it by hand:
# dev/test/mutations.sh [FIRST]
# A line is: file | what stands there (first occurrence) | what to put there.
set -eu
mutations=$(cat <<'LIST'
train_gpt.c|vec_add(x + (size_t)n * C, wpe|vec_add(x + (size_t)n * C, wpe + 1
train_gpt.c|vec_add(dwte + (size_t)tokens[n] * C + first, d, (size_t)channels);|vec_add(dwte + (size_t)tokens[n] * C + first, d, (size_t)channels - 1);
train_gpt.c|if (dwpe) vec_add(|if (0) vec_add(
train_gpt.c|out[i] = (x[i] - mu) * s * w[i] + b[i];|out[i] = (x[i] - mu) * s * w[i] - b[i];
train_gpt.c|sum += (x[i] - mu) * (x[i] - mu);|sum += x[i] * x[i];
train_gpt.c|sum_d += d;|sum_d -= d;
train_gpt.c|sum_dx += d * xhat;|sum_dx -= d * xhat;
train_gpt.c|sum_dx += dout[i] * (x[i] - mu) * s;|sum_dx += dout[i] * (x[i] - mu);
train_gpt.c|dw[i] += dout[i] * xhat;|dw[i] += dout[i];
train_gpt.c|db[i] += dout[i];|db[i] -= dout[i];
train_gpt.c|dout[i] * w[i] - average_d|dout[i] * w[i] + average_d
train_gpt.c|s * (dout[i] - average_d - (x[i] - mu)|s * (dout[i] - average_d + (x[i] - mu)
train_gpt.c|norm_scale(dout, x, mu, s, w, b, C);|norm_scale(dout, x, 0.0f, s, w, b, C);
train_gpt.c|sum_add_pieces(dw, sums, sum_pieces(N), C|sum_add_pieces(dw, sums, 1, C
train_gpt.c|sum_add_pieces(db, sums + C,|sum_add_pieces(db, sums,
train_gpt.c|if (b) VEC_LOOP for (int i = 0; i < columns; i++) out[i] += b[i];|if (b) VEC_LOOP for (int i = 0; i < columns; i++) out[i] -= b[i];
train_gpt.c|out[i] += x[(size_t)r * stride + i];|out[i] -= x[(size_t)r * stride + i];
train_gpt.c|OC, x, l->IC, l->fresh ? 0.0f : 1.0f|OC, x, l->IC, 0.0f
train_gpt.c|l->fresh = false;|
train_gpt.c|l->fresh = true;|;
train_gpt.c|N, l->IC, l->OC, 1.0f, dout|N, l->IC, l->OC, -1.0f, dout
train_gpt.c|a * cosines[i] - b * s;|a * cosines[i] + b * s;
train_gpt.c|b * cosines[i] + a * s;|b * cosines[i] - a * s;
train_gpt.c|rotate(m, a->dqkv, -1.0f,|rotate(m, a->dqkv, 1.0f,
train_gpt.c|dy[i] - y[i] * average|dy[i] + y[i] * average
train_gpt.c|1.0f + 3.0f * 0.044715f|1.0f - 3.0f * 0.044715f
train_gpt.c|x * s * (1.0f - s) * slope|x * s * (1.0f + s) * slope
train_gpt.c|phi + x * SQRT_1_OVER_2PI * e|phi - x * SQRT_1_OVER_2PI * e
train_gpt.c|dact[i] = x * phi;|dact[i] = phi;
train_gpt.c|dact[i] * 2.0f * positive|dact[i] * positive
train_gpt.c|dact[i] = positive * x;|
train_gpt.c|gate * (1.0f - s)|gate * (1.0f + s)
train_gpt.c|h[F + i] = d * gate * s;|h[F + i] = -d * gate * s;
train_gpt.c|losses[n] = lse - z[targets[n]];|losses[n] = lse + z[targets[n]];
train_gpt.c|(1.0f - (z[v] * cap) * (z[v] * cap));|(1.0f + (z[v] * cap) * (z[v] * cap));
train_gpt.c|z[target] -= dloss *|z[target] += dloss *
train_gpt.c|branch_gradient(m, dropout_of(m, DROP_MLP, layer, batch)|branch_gradient(m, dropout_of(m, DROP_MIXER, layer, batch)
train_gpt.c|weight(m, NORM2_W, l), weight(m, NORM2_B, l),|weight(m, NORM1_W, l), weight(m, NORM2_B, l),
train_gpt.c|if (!backward) continue;|if (!backward + (n > 0)) continue;
src/keys.h|return c->optimizer.adamw.embed_lr;|return 2 * c->optimizer.adamw.embed_lr;
train_gpt.c|scale = fmin(1.0, clip / (result->grad_norm + 1e-6));|scale = fmin(1.0, clip / (result->grad_norm + 1e-2));
train_gpt.c|qk_clip(t, &result->clipped)|0
train_gpt.c|row->decay ? rule_decay|!row->decay ? rule_decay
train_gpt.c|weight(m, BQ, layer), weight(m, WK, layer), weight(m, BK, layer)|NULL, weight(m, WK, layer), NULL
src/attn.h|m[i] = i >= first + j && x[i] > m[i]|m[i] = x[i] > m[i]
src/attn.h|x[i] = i >= first + j ? p : 0.0f;|x[i] = i > first + j ? p : 0.0f;
src/attn.h|float ds = p * (dp[i] - D[i])|float ds = p * (dp[i] + D[i])
src/attn.h|(dscale - dscale * c * c)|(dscale + dscale * c * c)
src/attn.h|correction[i] = vec_expf(shift[i] - larger);|correction[i] = 1.0f;
src/attn.h|sum[i] *= correction[i];|
src/attn.h|lse[i] = shift[i] + logf(sum[i]);|lse[i] = shift[i];
src/attn.h|(uint32_t)j, threshold, keep_scale);|(uint32_t)j + 1, threshold, keep_scale);
train_gpt.c|dweight += vec_dot(kept, d, n);|dweight += 0.5f * vec_dot(kept, d, n);
src/average.h|mean[i] = gamma * mean[i] + (1 - gamma)|mean[i] = gamma * mean[i] + gamma
src/average.h|w[i] += beta * mean[i];|w[i] -= beta * mean[i];
src/average.h|x[i] += share * (y[i] - x[i]);|x[i] = y[i];
train_gpt.c|if (has_tail(c) && done == c->train.steps)|if (0)
train_gpt.c|VEC_LOOP for (int k = 0; k < n; k++) d[k] *= weight;|;
train_gpt.c|dscores[e] * scores[e] * (1.0f - scores[e])|dscores[e] * scores[e]
train_gpt.c|batch.training && out);|false);
train_gpt.c|place[n * K + j] * C, j > 0, weights|place[n * K + j] * C, j >= 0, weights
train_gpt.c|N, C, E, 1.0f, a->dlogits|N, C, E, -1.0f, a->dlogits
train_gpt.c|float aux = m->fractions ? (float)|float aux = m->fractions ? 2.0f * (float)
src/moe.h|r->scale * scores[chosen[j]] / (sum|r->scale * by[chosen[j]] / (sum
src/moe.h|(dweights[j] - along)|dweights[j]
src/moe.h|if (!kept[e / size]) by[e] = -INFINITY;|if (!kept[e / size]) by[e] = 0.0f;
src/moe.h|(size > 1 ? group[best[1]] : 0.0f)|0.0f
src/moe.h|(fractions[e] - along / sum)|fractions[e]
src/moe.h|less > 0 ? rate : -rate|less > 0 ? -rate : rate
train_gpt.c|rotate(m, a->q + s.nope, 1.0f|rotate(m, a->q, 1.0f
train_gpt.c|rotate(m, dq + s.nope, -1.0f|rotate(m, dq + s.nope, 1.0f
train_gpt.c|rotate(m, drotated, -1.0f|rotate(m, drotated, 1.0f
train_gpt.c|vec_add(sum, from + s.nope, (size_t)s.rope);|memcpy(sum, from + s.nope, (size_t)s.rope * sizeof *sum);
train_gpt.c|NULL, N, l->IC, LATENT_EPS|NULL, N, l->IC, 1e-5f
train_gpt.c|rotated + (size_t)n * m->QKV, (size_t)s.rope|rotated, (size_t)s.rope
train_gpt.c|product_backward_weight(dup, dnorm, l, N, m->sums);|
train_gpt.c|gemm(false, false, N, KVR, s.nope, 1.0f, from|gemm(false, false, N, KVR, s.nope, 2.0f, from
train_gpt.c|wv = wk + (size_t)m->NH * s.nope * KVR|wv = wk
train_gpt.c|m->NH, s.nope, s.rope, m->max_logits + layer * m->NH|m->NH, s.nope, s.rope, m->max_logits
muon.h|muon__multiply(query + content_size, rotary_size, gamma);|muon__multiply(query + content_size, rotary_size, pow(gamma, alpha));
muon.h|(size_t)k_cols, pow(gamma, 1.0 - alpha)|(size_t)k_cols, pow(gamma, alpha)
train_gpt.c|size_t behind = (size_t)c->model.heads * head.first * row->cols;|size_t behind = 0;
train_gpt.c|, values_of->blocks[0] = head.second;|;
src/keys.h|c->model.nope + c->model.rope : head_size(c), 0};|c->model.rope : head_size(c), 0};
LIST
)
first=${1:-1}
rm -rf build/mutants
mkdir -p build/mutants/build/test
cp -r Makefile train_gpt.c test_gpt.c muon.h src data dev build/mutants/
number=0 survived=0
printf '%s\n' "$mutations" > build/mutants/list
# The unchanged copy must pass.
echo '#define MUON_C_COMMIT "mutant"' > build/mutants/build/commit.h
cc="gcc -std=gnu11 -O1 -fno-math-errno -fno-trapping-math -fopenmp -w"
tests="training_steps gradients_match_pytorch qk_clip_scales qk_clip_of micro_batches_add pieces_ schedules_follow tensor_table groups_have per_head a_step_of cached_logits gradients_match_finite"
(cd build/mutants && $cc test_gpt.c -o build/test_gpt -lcjson -lpcre2-8 -lutf8proc -lz -lm && $cc dev/test/test_attn.c -o build/test_attn -lm)
(cd build/mutants && build/test_attn >/dev/null && for test in $tests; do build/test_gpt $test >/dev/null || exit 1; done) ||
    { echo "error: the tests fail without any mutation"; exit 1; }
while IFS= read -r line; do
    number=$((number + 1))
    [ $number -ge "$first" ] || continue
    file=${line%%|*} change=${line#*|}
    cp train_gpt.c muon.h build/mutants/ && cp src/*.h build/mutants/src/
    FROM=${change%%|*} TO=${change#*|} awk '
        { at = index($0, ENVIRON["FROM"])
          if (at && !done) { $0 = substr($0, 1, at - 1) ENVIRON["TO"] substr($0, at + length(ENVIRON["FROM"])); done = 1 }
          print }
        END { exit !done }' "$file" > "build/mutants/$file" || { echo "$number: not found: $change"; exit 1; }
    (cd build/mutants && $cc test_gpt.c -o build/test_gpt -lcjson -lpcre2-8 -lutf8proc -lz -lm) || { echo "$number: does not compile: $change"; exit 1; }
    [ "$file" != src/attn.h ] || (cd build/mutants && $cc dev/test/test_attn.c -o build/test_attn -lm)
    noticed=no
    [ "$file" != src/attn.h ] || (cd build/mutants && timeout 120 build/test_attn >/dev/null 2>&1) || noticed=test_attn
    for test in $tests; do
        [ "$noticed" = no ] || break
        (cd build/mutants && timeout 120 build/test_gpt $test >/dev/null 2>&1) || { noticed=$test; break; }
    done
    [ "$noticed" != no ] || survived=$((survived + 1))
    echo "$number: ${change%%|*}  ->  ${change#*|}: $([ "$noticed" = no ] && echo SURVIVED || echo "noticed by $noticed")"
done < build/mutants/list
echo "$number mutations, $survived survived"
[ $survived -eq 0 ]
