#!/bin/sh
# Do the tests notice? Breaks train_gpt.c in one place at a time (a sign, a factor, a forgotten term), builds test_gpt in a
# copy of the tree and expects its numerical tests to fail. Takes some minutes; run it by hand: dev/test/mutations.sh [FIRST]
# A line is: what stands in train_gpt.c (once) | what to put there.
set -eu
mutations=$(cat <<'LIST'
e[i] + (p ? p[i] : 0.0f)|e[i] - (p ? p[i] : 0.0f)
de[i] += dx[|de[i] -= dx[
dp[i] += dx[|dp[i] -= dx[
on[i] = xn[i] - mu;|on[i] = xn[i] + mu;
(b ? b[i] : 0.0f);|-(b ? b[i] : 0.0f);
sum_d += d;|sum_d -= d;
sum_dx += d *|sum_dx -= d *
- average_d - (xn|+ average_d - (xn
- average_d - (xn[i] - mu) * s * average_dx|- average_d + (xn[i] - mu) * s * average_dx
dw[i] += dn[i] * (xn[i] - mu) * s;|dw[i] += dn[i] * (xn[i] - mu);
db[i] += dn[i];|db[i] -= dn[i];
out[(size_t)n * OC + i] += b[i];|out[(size_t)n * OC + i] -= b[i];
OC, IC, N, 1.0f, dout, OC, x, IC, 1.0f, dw, IC|OC, IC, N, -1.0f, dout, OC, x, IC, 1.0f, dw, IC
OC, IC, N, 1.0f, dout, OC, x, IC, 1.0f, dw, IC|OC, IC, N, 1.0f, dout, OC, x, IC, 0.0f, dw, IC
N, IC, OC, 1.0f, dout, OC, w, IC, 0.0f, dx, IC|N, IC, OC, -1.0f, dout, OC, w, IC, 0.0f, dx, IC
db[i] += dout[|db[i] -= dout[
ai * c[i] - bi * si|ai * c[i] + bi * si
bi * c[i] + ai * si|bi * c[i] - ai * si
m->rope_sin, -1.0f,|m->rope_sin, 1.0f,
dy[at + i] - y[at + i] * average|dy[at + i] + y[at + i] * average
largest = fmaxf(largest, vec_max(sr, i0 + r + 1));|largest = fmaxf(largest, vec_max(sr, i0 + rows));
p[j] *= 1.0f / sum;|p[j] *= 1.0f / (sum + 1e-4f);
pr[j] * (dr[j] - D) * a.scale|pr[j] * (dr[j] + D) * a.scale
pr[j] * (dr[j] - D) * a.scale|pr[j] * (dr[j] - D)
dr[j] *= 1.0f - (sr[j] / a.softcap)|dr[j] *= 1.0f + (sr[j] / a.softcap)
if (a.dropout.rate > 0.0f) attention_dropout(dr, a, b, h, i);|
if (a.dropout.rate > 0.0f) attention_dropout(pr, a, b, h, i);|
keys, HS, rows, 1.0f, p, T,|keys, HS, rows, -1.0f, p, T,
rows, HS, keys, 1.0f, ds, T,|rows, HS, keys, -1.0f, ds, T,
keys, HS, rows, 1.0f, ds, T,|keys, HS, rows, -1.0f, ds, T,
int kv = h / (a.NH / a.NKV);|int kv = h % a.NKV;
a[i] = 0.5f * x[i] * (1.0f + vec_tanhf|a[i] = 0.5f * x[i] * (1.0f - vec_tanhf
1.0f + 3.0f * 0.044715f|1.0f - 3.0f * 0.044715f
0.5f * x[i] * (1.0f - t * t) * slope|0.5f * x[i] * (1.0f + t * t) * slope
+ x[i] * phi|- x[i] * phi
d[i] * 2.0f * x[i] :|d[i] * x[i] :
gate[i] * (1.0f - sigmoid)|gate[i] * (1.0f + sigmoid)
dx[i] = d[i] * gate[i] * sigmoid;|dx[i] = -d[i] * gate[i] * sigmoid;
out[i] = x[i] + branch[i];|out[i] = x[i] - branch[i];
losses[n] = lse[n] - z[targets[n]];|losses[n] = lse[n] + z[targets[n]];
(1.0f - (z[v] * cap) * (z[v] * cap));|(1.0f + (z[v] * cap) * (z[v] * cap));
z[targets[n]] -= dloss *|z[targets[n]] += dloss *
weight(m, NORM2_W, l), weight(m, NORM2_B, l),|weight(m, NORM1_W, l), weight(m, NORM2_B, l),
lr = c->optimizer.adamw.embed_lr;|lr = 2 * c->optimizer.adamw.embed_lr;
scale = fmin(1.0, clip / (result->grad_norm + 1e-6));|scale = fmin(1.0, clip / (result->grad_norm + 1e-2));
qk_clip(t, &result->clipped)|0
row->decay ? muon ?|!row->decay ? muon ?
weight(m, BQ, l), weight(m, WK, l), weight(m, BK, l)|NULL, weight(m, WK, l), NULL
LIST
)
first=${1:-1}
rm -rf build/mutants
mkdir -p build/mutants/build/test
cp -r Makefile train_gpt.c test_gpt.c muon.h src data dev build/mutants/
number=0 survived=0
printf '%s\n' "$mutations" > build/mutants/list
while IFS= read -r line; do
    number=$((number + 1))
    [ $number -ge "$first" ] || continue
    FROM=${line%%|*} TO=${line#*|} awk '
        { at = index($0, ENVIRON["FROM"])
          if (at && !done) { $0 = substr($0, 1, at - 1) ENVIRON["TO"] substr($0, at + length(ENVIRON["FROM"])); done = 1 }
          print }
        END { exit !done }' train_gpt.c > build/mutants/train_gpt.c || { echo "$number: not found: ${line%%|*}"; exit 1; }
    echo '#define MUON_C_COMMIT "mutant"' > build/mutants/build/commit.h
    (cd build/mutants && gcc -std=gnu11 -O2 -fno-math-errno -fno-trapping-math -fopenmp -w test_gpt.c -o build/test_gpt -lcjson -lz -lm)
    noticed=no
    for test in gradients_match attention_ training_steps qk_clip micro_ schedules tensor_table groups_have; do
        (cd build/mutants && timeout 120 build/test_gpt $test >/dev/null 2>&1) || { noticed=$test; break; }
    done
    [ "$noticed" != no ] || survived=$((survived + 1))
    echo "$number: ${line%%|*}  ->  ${line#*|}: $([ "$noticed" = no ] && echo SURVIVED || echo "noticed by $noticed")"
done < build/mutants/list
echo "$number mutations, $survived survived"
[ $survived -eq 0 ]
