// What the neurons of `cpu.cpp` and `sparse.cpp` have in common.

#pragma once

#include <cmath>
#include <cstdint>

using Size = int64_t;

struct Neuron {
    float tau, leak, v_threshold, v_reset, alpha;
    int decay_input, strict, detach_reset, surrogate;

    float fires_from() const { return strict ? std::nextafterf(v_threshold, INFINITY) : v_threshold; }
};

// The membrane at which a neuron with the membrane h before fires or not, for a current x.
template <bool DECAY_INPUT>
inline float charge(float h, float x, const Neuron& n) {
    return DECAY_INPUT ? h + (x - (h - n.v_reset)) / n.tau : h * n.leak + (x + n.v_reset / n.tau);
}
