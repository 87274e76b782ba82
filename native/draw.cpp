// One token drawn from a row of logits: see ops.h. One definition for every kernel set, in double.
//
// Nothing is sorted. What top_k and top_p keep are all tokens down to a last one, which is found by halving, in time
// linear in the vocabulary; of a peaked row most tokens are set aside before that.
#include "ops.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

namespace slm {
namespace {

struct Token {
  float logit;
  int32_t id;
  double weight;  // exp((logit - largest) / temperature)
};

bool before(const Token& a, const Token& b) { return a.logit != b.logit ? a.logit > b.logit : a.id < b.id; }

// The k-th token, largest first; the lower id first among equals.
Token ranked(const float* logits, int64_t vocab, int64_t k) {
  std::vector<float> values(logits, logits + vocab);
  std::nth_element(values.begin(), values.begin() + (k - 1), values.end(), std::greater<float>());
  const float logit = values[static_cast<size_t>(k - 1)];
  int64_t equals = k - std::count_if(values.begin(), values.begin() + (k - 1), [=](float v) { return v > logit; });
  int64_t id = 0;
  while (logits[id] != logit || --equals) ++id;
  return {logit, static_cast<int32_t>(id), 0.0};
}

// The token with which the weights, largest first, reach `target`, or the last one.
Token reaching(std::vector<Token>& tokens, double target) {
  auto begin = tokens.begin(), end = tokens.end();
  while (end - begin > 1) {
    const auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, before);
    double left = 0.0;
    for (auto each = begin; each != middle; ++each) left += each->weight;
    if (left >= target) {
      end = middle;
    } else {
      target -= left;
      begin = middle;
    }
  }
  return *begin;
}

float largest(const float* logits, int64_t vocab) {
  float top = logits[0];
  for (int64_t i = 1; i < vocab; ++i) top = logits[i] > top ? logits[i] : top;
  return top;
}

}  // namespace

int32_t draw(const float* logits, int64_t vocab, double temperature, int64_t top_k, double top_p, double min_p, double u) {
  const float top = largest(logits, vocab);
  if (top == -std::numeric_limits<float>::infinity()) return -1;
  Token last{-std::numeric_limits<float>::infinity(), std::numeric_limits<int32_t>::max(), 0.0};
  if (top_k > 0 && top_k < vocab) last = ranked(logits, vocab, top_k);
  std::vector<double> weights(static_cast<size_t>(vocab));
  int64_t kept = 0;
  double total = 0.0;
  const auto keep = [&](int32_t id, double least) {  // or make the weight 0, so that it is never drawn
    double& weight = weights[static_cast<size_t>(id)];
    if (before(last, {logits[id], id, 0.0}) || weight < least) weight = 0.0;
    kept += weight > 0.0;
    total += weight;
  };
  for (int32_t id = 0; id < vocab; ++id) {
    const double x = static_cast<double>(logits[id]) - top;
    weights[static_cast<size_t>(id)] = x == 0.0 ? 1.0 : std::exp(x / temperature);
    keep(id, 0.0);
  }
  if (top_p < 1.0) {
    // Tokens below this weigh less, all together, than what top_p leaves out.
    const double unlikely = 0.5 * (1.0 - top_p) * total / static_cast<double>(kept);
    std::vector<Token> tokens;
    for (int32_t id = 0; id < vocab; ++id)
      if (const double weight = weights[static_cast<size_t>(id)]; weight > 0.0 && weight >= unlikely)
        tokens.push_back({logits[id], id, weight});
    last = reaching(tokens, top_p * total);
  }
  if (top_p < 1.0 || min_p > 0.0) {
    total = 0.0;
    for (int32_t id = 0; id < vocab; ++id) keep(id, min_p);
  }
  const double target = u * total;
  int32_t id = -1, drawn = -1;
  for (double sum = 0.0; sum <= target && ++id < vocab;)
    if (const double weight = weights[static_cast<size_t>(id)]; weight > 0.0) {
      sum += weight;
      drawn = id;
    }
  return drawn;
}

}  // namespace slm
