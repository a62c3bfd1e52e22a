"""The works that docstrings cite by key; a test holds the two together."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """One work.

    Attributes:
        authors: family names and initials.
        title: as printed.
        venue: journal or proceedings, volume and pages.
        year: of publication.
        doi: without the resolver's address; "" if there is none.
        arxiv: number, or "".
    """

    authors: str
    title: str
    venue: str
    year: int
    doi: str = ""
    arxiv: str = ""


REFERENCES: dict[str, Reference] = {
    "alpaydin1998optical": Reference(
        "Alpaydin, E. and Kaynak, C.",
        "Optical Recognition of Handwritten Digits",
        "UCI Machine Learning Repository",
        1998,
        doi="10.24432/C50P49",
    ),
    "bertsekas1976goldstein": Reference(
        "Bertsekas, D. P.",
        "On the Goldstein-Levitin-Polyak gradient projection method",
        "IEEE Transactions on Automatic Control 21(2), 174-184",
        1976,
        doi="10.1109/TAC.1976.1101194",
    ),
    "bitran1981disaggregation": Reference(
        "Bitran, G. R. and Hax, A. C.",
        "Disaggregation and Resource Allocation Using Convex Knapsack Problems with "
        "Bounded Variables",
        "Management Science 27(4), 431-441",
        1981,
        doi="10.1287/mnsc.27.4.431",
    ),
    "brent1980improved": Reference(
        "Brent, R. P.",
        "An improved Monte Carlo factorization algorithm",
        "BIT Numerical Mathematics 20(2), 176-184",
        1980,
        doi="10.1007/BF01933190",
    ),
    "clopper1934use": Reference(
        "Clopper, C. J. and Pearson, E. S.",
        "The use of confidence or fiducial limits illustrated in the case of the "
        "binomial",
        "Biometrika 26(4), 404-413",
        1934,
        doi="10.1093/biomet/26.4.404",
    ),
    "croce2020reliable": Reference(
        "Croce, F. and Hein, M.",
        "Reliable evaluation of adversarial robustness with an ensemble of diverse "
        "parameter-free attacks",
        "Proceedings of the 37th International Conference on Machine Learning, "
        "PMLR 119",
        2020,
        arxiv="2003.01690",
    ),
    "croce2021mind": Reference(
        "Croce, F. and Hein, M.",
        "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers",
        "Proceedings of the 38th International Conference on Machine Learning, "
        "PMLR 139",
        2021,
        arxiv="2103.01208",
    ),
    "dantzig1957discrete": Reference(
        "Dantzig, G. B.",
        "Discrete-Variable Extremum Problems",
        "Operations Research 5(2), 266-288",
        1957,
        doi="10.1287/opre.5.2.266",
    ),
    "deng2020towards": Reference(
        "Deng, Z., He, H., Huang, J. and Su, W. J.",
        "Towards Understanding the Dynamics of the First-Order Adversaries",
        "Proceedings of the 37th International Conference on Machine Learning, "
        "PMLR 119",
        2020,
        arxiv="2010.10650",
    ),
    "dong2018boosting": Reference(
        "Dong, Y., Liao, F., Pang, T., Su, H., Zhu, J., Hu, X. and Li, J.",
        "Boosting Adversarial Attacks with Momentum",
        "IEEE/CVF Conference on Computer Vision and Pattern Recognition",
        2018,
        arxiv="1710.06081",
    ),
    "frank1956algorithm": Reference(
        "Frank, M. and Wolfe, P.",
        "An algorithm for quadratic programming",
        "Naval Research Logistics Quarterly 3(1-2), 95-110",
        1956,
        doi="10.1002/nav.3800030109",
    ),
    "freund2016new": Reference(
        "Freund, R. M. and Grigas, P.",
        "New Analysis and Results for the Frank-Wolfe Method",
        "Mathematical Programming 155, 199-230",
        2016,
        arxiv="1307.0873",
    ),
    "good1953population": Reference(
        "Good, I. J.",
        "The population frequencies of species and the estimation of population "
        "parameters",
        "Biometrika 40(3-4), 237-264",
        1953,
        doi="10.1093/biomet/40.3-4.237",
    ),
    "goodfellow2015explaining": Reference(
        "Goodfellow, I. J., Shlens, J. and Szegedy, C.",
        "Explaining and Harnessing Adversarial Examples",
        "International Conference on Learning Representations",
        2015,
        arxiv="1412.6572",
    ),
    "gowal2019alternative": Reference(
        "Gowal, S., Uesato, J., Qin, C., Huang, P.-S., Mann, T. and Kohli, P.",
        "An Alternative Surrogate Loss for PGD-based Adversarial Testing",
        "arXiv preprint",
        2019,
        arxiv="1910.09338",
    ),
    "guo2020backpropagating": Reference(
        "Guo, Y., Li, Q. and Chen, H.",
        "Backpropagating Linearly Improves Transferability of Adversarial Examples",
        "Advances in Neural Information Processing Systems 33",
        2020,
        arxiv="2012.03528",
    ),
    "hager2005conjugate": Reference(
        "Hager, W. W. and Zhang, H.",
        "A new conjugate gradient method with guaranteed descent and an efficient "
        "line search",
        "SIAM Journal on Optimization 16(1), 170-192",
        2005,
        doi="10.1137/030601880",
    ),
    "hesterberg2015teachers": Reference(
        "Hesterberg, T. C.",
        "What Teachers Should Know About the Bootstrap: Resampling in the "
        "Undergraduate Statistics Curriculum",
        "The American Statistician 69(4), 371-386",
        2015,
        doi="10.1080/00031305.2015.1089789",
    ),
    "higham2002accuracy": Reference(
        "Higham, N. J.",
        "Accuracy and Stability of Numerical Algorithms, second edition",
        "Society for Industrial and Applied Mathematics",
        2002,
        doi="10.1137/1.9780898718027",
    ),
    "hintermuller2002primal": Reference(
        "Hintermüller, M., Ito, K. and Kunisch, K.",
        "The primal-dual active set strategy as a semismooth Newton method",
        "SIAM Journal on Optimization 13(3), 865-888",
        2002,
        doi="10.1137/S1052623401383558",
    ),
    "kuczynski1992estimating": Reference(
        "Kuczyński, J. and Woźniakowski, H.",
        "Estimating the largest eigenvalue by the power and Lanczos algorithms with a "
        "random start",
        "SIAM Journal on Matrix Analysis and Applications 13(4), 1094-1122",
        1992,
        doi="10.1137/0613066",
    ),
    "kurakin2017adversarial": Reference(
        "Kurakin, A., Goodfellow, I. J. and Bengio, S.",
        "Adversarial examples in the physical world",
        "International Conference on Learning Representations, workshop track",
        2017,
        arxiv="1607.02533",
    ),
    "lacostejulien2016convergence": Reference(
        "Lacoste-Julien, S.",
        "Convergence Rate of Frank-Wolfe for Non-Convex Objectives",
        "arXiv preprint",
        2016,
        arxiv="1607.00345",
    ),
    "learned2019new": Reference(
        "Learned-Miller, E. and Thomas, P. S.",
        "A New Confidence Interval for the Mean of a Bounded Random Variable",
        "arXiv preprint",
        2019,
        arxiv="1905.06208",
    ),
    "madry2018towards": Reference(
        "Madry, A., Makelov, A., Schmidt, L., Tsipras, D. and Vladu, A.",
        "Towards Deep Learning Models Resistant to Adversarial Attacks",
        "International Conference on Learning Representations",
        2018,
        arxiv="1706.06083",
    ),
    "maree2018real": Reference(
        "Maree, S. C., Alderliesten, T., Thierens, D. and Bosman, P. A. N.",
        "Real-valued evolutionary multi-modal optimization driven by hill-valley "
        "clustering",
        "Proceedings of the Genetic and Evolutionary Computation Conference, 857-864",
        2018,
        arxiv="1810.07085",
    ),
    "martinez1994local": Reference(
        "Martínez, J. M.",
        "Local minimizers of quadratic functions on Euclidean balls and spheres",
        "SIAM Journal on Optimization 4(1), 159-176",
        1994,
        doi="10.1137/0804009",
    ),
    "michelot1986finite": Reference(
        "Michelot, C.",
        "A finite algorithm for finding the projection of a point onto the canonical "
        "simplex of R^n",
        "Journal of Optimization Theory and Applications 50(1), 195-200",
        1986,
        doi="10.1007/BF00938486",
    ),
    "pedregosa2020linearly": Reference(
        "Pedregosa, F., Negiar, G., Askari, A. and Jaggi, M.",
        "Linearly Convergent Frank-Wolfe with Backtracking Line-Search",
        "Proceedings of the 23rd International Conference on Artificial Intelligence "
        "and Statistics, PMLR 108",
        2020,
        arxiv="1806.05123",
    ),
    "pintor2022indicators": Reference(
        "Pintor, M., Demetrio, L., Sotgiu, A., Demontis, A., Carlini, N., Biggio, B. "
        "and Roli, F.",
        "Indicators of Attack Failure: Debugging and Improving Optimization of "
        "Adversarial Examples",
        "Advances in Neural Information Processing Systems 35",
        2022,
        arxiv="2106.09947",
    ),
    "rump2006verification": Reference(
        "Rump, S. M.",
        "Verification of positive definiteness",
        "BIT Numerical Mathematics 46(2), 433-452",
        2006,
        doi="10.1007/s10543-006-0056-1",
    ),
    "salmon2011parallel": Reference(
        "Salmon, J. K., Moraes, M. A., Dror, R. O. and Shaw, D. E.",
        "Parallel random numbers: as easy as 1, 2, 3",
        "Proceedings of the International Conference for High Performance Computing, "
        "Networking, Storage and Analysis (SC11)",
        2011,
        doi="10.1145/2063384.2063405",
    ),
    "santurkar2018does": Reference(
        "Santurkar, S., Tsipras, D., Ilyas, A. and Madry, A.",
        "How Does Batch Normalization Help Optimization?",
        "Advances in Neural Information Processing Systems 31",
        2018,
        arxiv="1805.11604",
    ),
    "tsiligkaridis2022understanding": Reference(
        "Tsiligkaridis, T. and Roberts, J.",
        "Understanding and Increasing Efficiency of Frank-Wolfe Adversarial Training",
        "Conference on Computer Vision and Pattern Recognition (CVPR), 50-59",
        2022,
        arxiv="2012.12368",
    ),
    "wang2019convergence": Reference(
        "Wang, Y., Ma, X., Bailey, J., Yi, J., Zhou, B. and Gu, Q.",
        "On the Convergence and Robustness of Adversarial Training",
        "Proceedings of Machine Learning Research 97 (ICML), 6586-6595",
        2019,
        arxiv="2112.08304",
    ),
    "wong2020fast": Reference(
        "Wong, E., Rice, L. and Kolter, J. Z.",
        "Fast is better than free: Revisiting adversarial training",
        "International Conference on Learning Representations",
        2020,
        arxiv="2001.03994",
    ),
}
